"""Checks and their verdicts: a line each, and the exit code of a script of them."""

FAILED = []


def verdict(name, ok, figure=""):
    if not ok:
        FAILED.append(name)
    print(f"{'ok  ' if ok else 'FAIL'} {name}  {figure}", flush=True)


def run(*checks):
    """0 if all hold, else 1."""
    for check in checks:
        try:
            check()
        except Exception as error:  # a reader that refuses a file is what this is about
            verdict(f"{check.__name__}: {type(error).__name__}: {error}", False)
    return 1 if FAILED else 0
