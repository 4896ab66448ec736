"""Reads trajectories of several row groups with pyarrow, polars and DuckDB. Argument: the Parquet file.

All three find the same rows and values, and leave out the row groups that cannot hold what is asked for, by the
statistics in the file. Prints a line a check; exit 1 if any failed.
"""

import re
import subprocess
import sys
from pathlib import Path

import duckdb
import polars
import pyarrow.compute
import pyarrow.dataset
import pyarrow.parquet
from checks import run, verdict

FILE = sys.argv[1]
TEXTS = ["id", "source", "split", "question", "understand", "plan", "execute", "verify", "answer", "language", "meta"]
FIRST = pyarrow.parquet.ParquetFile(FILE).read_row_group(0, ["id"])["id"][0].as_py()
UNITS = {"bytes": 1, "kB": 1e3, "MB": 1e6}
GROUPS = pyarrow.parquet.read_metadata(FILE).num_row_groups


def main():
    return run(rows_and_values, statistics, row_groups)


def rows_and_values():
    """Every value of every column, not a sample."""
    table = pyarrow.parquet.read_table(FILE)
    verdict("tables: there are several row groups", GROUPS > 2, f"{table.num_rows} rows in {GROUPS}")
    frames = {"polars": polars.read_parquet(FILE).to_arrow(), "DuckDB": duckdb.sql(f"FROM '{FILE}'").to_arrow_table()}
    for name, other in frames.items():
        verdict(f"{name}: the columns of pyarrow", other.column_names == table.column_names)
        verdict(f"{name}: the rows of pyarrow", other.to_pylist() == table.to_pylist(), f"{other.num_rows} rows")


def statistics():
    """What each row group says of its columns is what is in it; long texts may be cut, never beyond the values."""
    file, wrong = pyarrow.parquet.ParquetFile(FILE), []
    rows = duckdb.sql(f"SELECT row_group_id, path_in_schema, stats_min_value, stats_max_value, stats_null_count "
                      f"FROM parquet_metadata('{FILE}')").fetchall()
    said = {(group, column): bounds for group, column, *bounds in rows}
    for group in range(GROUPS):
        table = file.read_row_group(group, TEXTS)
        for name in TEXTS:
            bounds = pyarrow.compute.min_max(table[name]).as_py()
            low, high, nulls = said[group, name]
            known = nulls == 0 and None not in (low, high)
            if not known or low.encode() > bounds["min"].encode() or high.encode() < bounds["max"].encode():
                wrong.append((group, name))
    verdict("DuckDB: the statistics enclose what each row group holds", not wrong, wrong)


def row_groups():
    """The first row's id can only stand in one group, and a text beyond all values in none."""
    for wanted, groups, rows in ((FIRST, 1, 1), ("~", 0, 0)):
        condition = pyarrow.compute.field("id") == wanted
        (fragment,) = pyarrow.dataset.dataset(FILE).get_fragments()
        found = pyarrow.parquet.read_table(FILE, filters=condition).num_rows
        verdict(f"pyarrow: reads {groups} of the row groups", (len(fragment.split_by_row_group(condition)), found) == (groups, rows))
        script = f"import polars; print(polars.scan_parquet({FILE!r}).filter(polars.col('id') == {wanted!r}).collect().height)"
        done = subprocess.run([sys.executable, "-c", script], env={"POLARS_VERBOSE": "1"}, capture_output=True, text=True)
        read = re.search(r"reading (\d+) / (\d+) row groups", done.stderr)
        verdict(f"polars: reads {groups} of the row groups", bool(read) and read.groups() == (str(groups), str(GROUPS))
                and done.stdout.split() == [str(rows)], read and read[0])
        query = f"SELECT * FROM '{FILE}' WHERE id = '{wanted}'"
        ((_, plan),) = duckdb.sql(f"EXPLAIN ANALYZE {query}").fetchall()
        amount, unit = re.search(r"Data Read:\s+([\d.]+) (\w+)", plan).groups()
        share = float(amount) * UNITS[unit] / Path(FILE).stat().st_size
        verdict(f"DuckDB: reads {groups} of the row groups", len(duckdb.sql(query).fetchall()) == rows and share < 0.5,
                f"{share:.1%} of the file")


if __name__ == "__main__":
    sys.exit(main())
