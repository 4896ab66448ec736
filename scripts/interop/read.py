"""Reads what a short run wrote, with the programs that others use. Arguments: the base model, the folder of files.

Prints a line a check; exit 1 if any failed. `scripts/interop/run` makes environment and files and calls this.
"""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import torch
from checks import run, verdict
from peft import PeftModel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoTokenizer, Qwen2ForCausalLM
from transformers.utils import logging

BASE, FILES = Path(sys.argv[1]), Path(sys.argv[2])
TEXT = (pa.string(), pa.large_string())
TRAJECTORY = {
    "id": TEXT, "source": TEXT, "split": TEXT, "question": TEXT, "understand": TEXT, "plan": TEXT, "execute": TEXT,
    "verify": TEXT, "answer": TEXT, "language": TEXT, "corrective": (pa.bool_(),), "planted": None, "weights": None,
    "meta": None,
}
STAGES = ["understand", "plan", "execute", "verify"]


def main():
    logging.disable_progress_bar()
    return run(trajectories, statistics, events, generation, adapters)


def trajectories():
    for file, corrective in (("synthesized", False), ("injected", True)):
        table = pa.parquet.read_table(FILES / f"{file}.parquet")
        schema = table.schema
        verdict(f"pyarrow: {file}.parquet has the columns", list(schema.names) == list(TRAJECTORY), schema.names)
        wrong = [name for name, types in TRAJECTORY.items()
                 if types and name in schema.names and schema.field(name).type not in types]
        verdict(f"pyarrow: {file}.parquet has their types", not wrong, wrong)
        planted = schema.field("planted").type
        verdict("pyarrow: planted is a struct", pa.types.is_struct(planted)
                and fields(planted) == ["kind", "calculation", "right", "wrong"])
        spans = schema.field("weights").type
        verdict("pyarrow: weights is a list of spans", (pa.types.is_list(spans) or pa.types.is_large_list(spans))
                and fields(spans.value_type) == ["start", "end", "weight"])
        rows = table.to_pylist()
        whole = all(row[stage] for row in rows for stage in STAGES)
        verdict(f"pyarrow: {file}.parquet has whole rows", whole, f"{len(rows)} rows")
        verdict(f"pyarrow: planted and corrective agree in {file}.parquet",
                all(row["corrective"] == (row["planted"] is not None) for row in rows)
                and any(row["corrective"] for row in rows) == corrective)
        metadata = pa.parquet.read_metadata(FILES / f"{file}.parquet").metadata or {}
        verdict(f"pyarrow: {file}.parquet says where it is from", {b"polya.version", b"polya.source"} <= set(metadata))


def fields(struct):
    return [struct.field(index).name for index in range(struct.num_fields)]


def statistics():
    files = sorted((FILES / "run" / "statistics").glob("*.parquet"))
    rows = [row for file in files for row in pa.parquet.read_table(file).to_pylist()]
    steps = sorted({row["step"] for row in rows})
    verdict("pyarrow: statistics hold every step", steps == [1, 2, 3, 4], steps)
    verdict("pyarrow: statistics have a row a stage", sorted({row["stage"] for row in rows}) == sorted(STAGES))
    wanted = {"step", "stage", "tokens", "loss", "accuracy", "weight", "transition"}
    verdict("pyarrow: statistics have the columns", bool(rows) and wanted <= set(rows[0]), sorted(rows[0]) if rows else "")


def events():
    accumulator = EventAccumulator(str(FILES / "run" / "tensorboard"))
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    verdict("tensorboard: scalars are found", bool(tags), tags)
    losses = [tag for tag in tags if "loss" in tag]
    complete = [tag for tag in losses if [event.step for event in accumulator.Scalars(tag)] == [1, 2, 3, 4]]
    verdict("tensorboard: a loss has every step", bool(complete), complete)


def load():
    return Qwen2ForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()


def generation():
    """The worker's greedy continuation is that of transformers, and with the reasoning adapter that of PEFT."""
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    tuned = PeftModel.from_pretrained(load(), FILES / "checkpoint" / "reasoning").eval()
    for name, model in (("transformers", load()), ("peft", tuned)):
        line = json.loads((FILES / f"{name}.jsonl").read_text())
        prompt = tokenizer(line["prompt"], return_tensors="pt").input_ids
        with torch.no_grad():
            full = model.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=40, do_sample=False)
        ids = [token for token in full[0, prompt.shape[1]:].tolist() if token != tokenizer.eos_token_id]
        verdict(f"{name}: the same greedy tokens", ids == line["ids"], f"{len(ids)} tokens: {line['text'][:50]!r}")


def adapters():
    """Each folder loads, finds every one of its tensors a place, and changes the output where it should."""
    folder = FILES / "checkpoint"
    ids = tag_and_more()
    for name in ("reasoning", "verification"):
        with torch.no_grad():
            before = load()(ids).logits
            # PEFT names what it could not place, and is silent about it unless asked.
            model = PeftModel.from_pretrained(load(), folder / name, adapter_name=name)
            model.eval()
            placed = [weight for key, weight in model.named_parameters() if f"lora_B.{name}" in key]
            after = model(input_ids=ids).logits
        verdict(f"peft: {name} has a B that has learned", bool(placed) and any(weight.abs().max() > 0 for weight in placed),
                f"{len(placed)} modules")
        change = (after - before).abs().amax(dim=-1)[0]
        verdict(f"peft: {name} changes the forward", change.max().item() > 1e-6, f"{change.max().item():.1e}")
        if name == "verification":
            invocation = json.loads((folder / name / "adapter_config.json").read_text()).get("alora_invocation_tokens") or []
            verdict("peft: verification is an activated adapter", bool(invocation), invocation)
            start = find(ids[0].tolist(), invocation)
            verdict("peft: verification is off before its tag", start is not None and change[:start].max().item() == 0,
                    f"tag at {start} of {len(change)}")


def tag_and_more():
    """Ids of one canonical trajectory, with the VERIFY tag somewhere in it."""
    row = pa.parquet.read_table(FILES / "synthesized.parquet").to_pylist()[0]
    stages = "\n\n".join(f"#### {stage.upper()} ####\n{row[stage]}" for stage in STAGES)
    text = f"Question: {row['question']}\n\nSolution:\n{stages}\n\nFinal Answer: {row['answer']}\n"
    return AutoTokenizer.from_pretrained(BASE)(text, return_tensors="pt").input_ids


def find(ids, part):
    found = [at for at in range(len(ids) - len(part) + 1) if ids[at:at + len(part)] == part]
    return found[-1] if part and found else None


if __name__ == "__main__":
    sys.exit(main())
