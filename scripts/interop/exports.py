"""Checks exports and `worker logits` of a short run with PEFT and transformers. Arguments: the base, the folder of files,
the worker binary. Prints a line a check; exit 1 if any failed."""

import json
import subprocess
import sys
from pathlib import Path

import torch
from checks import run, verdict
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

BASE, FILES, WORKER = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
NAMES = ["reasoning", "verification"]


def main():
    logging.disable_progress_bar()
    return run(scripts, merged_tokenizer, logits_and_gradients)


def scripts():
    """The script that lies in each export."""
    for name, words in (("peft", [BASE]), ("merged-f32", []), ("merged-f16", []), ("gguf", [])):
        done = subprocess.run([sys.executable, "-W", "ignore", FILES / "exports" / name / "check.py", *words],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        last = (done.stdout.split() or ["nothing"])[-1]
        ok = done.returncode == 0 and float(last) < (5e-3 if name == "gguf" else 2e-5)
        verdict(f"export {name}: its own script finds its logits", ok, last if not done.returncode else done.stderr[-400:])


def merged_tokenizer():
    text = "Question: what is 12 + 30?\n\nSolution:\n#### UNDERSTAND ####\n"
    ids = [AutoTokenizer.from_pretrained(folder)(text).input_ids for folder in (BASE, FILES / "exports" / "merged-f32")]
    verdict("export merged: the tokenizer came along", ids[0] == ids[1] and len(ids[0]) > 5, len(ids[0]))


def logits_and_gradients():
    """`worker logits` on both adapters of the run, verification from its tag on, against PEFT."""
    ids = load_file(FILES / "exports" / "peft" / "parity.safetensors")["ids"]
    adapters = FILES / "checkpoint"
    tag = json.loads((adapters / "verification" / "adapter_config.json").read_text())["alora_invocation_tokens"]
    start = max(at for at in range(len(ids)) if ids[at:at + len(tag)].tolist() == tag)
    (FILES / "ids.json").write_text(json.dumps(ids.tolist()))
    output = FILES / "logits.safetensors"
    subprocess.run([WORKER, "logits", "--model", BASE, "--ids", FILES / "ids.json", "--quant", "none", "--adapters", adapters,
                    "--verify-from", str(start), "--grads", "--output", output], check=True)
    found = load_file(output)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32), adapters / NAMES[0],
                                      adapter_name=NAMES[0], is_trainable=True)
    model.load_adapter(adapters / NAMES[1], adapter_name=NAMES[1], is_trainable=True)
    model.set_adapter(NAMES[1])
    model.base_model.set_adapter(NAMES)
    leaves = {name: weight for name, weight in model.named_parameters() if "lora_" in name}
    for weight in leaves.values():
        weight.requires_grad_(True)
        weight.data = weight.data.detach()
    model.eval()
    logits = model(input_ids=ids[None]).logits[0]
    torch.nn.functional.cross_entropy(logits[:-1].double(), ids[1:]).backward()
    error = distance(found["logits"], logits.detach())
    verdict("worker logits: those of PEFT with both adapters", error < 2e-5, f"{error:.1e}")
    errors = []
    for name, weight in leaves.items():
        adapter = next(adapter for adapter in NAMES if f".{adapter}." in name)
        errors.append(distance(found[f"grad.{adapter}.{name.replace(f'.{adapter}.', '.')}"], weight.grad))
    verdict("worker logits: the gradients of PEFT", max(errors) < 1e-4, f"{len(errors)} tensors, worst {max(errors):.1e}")


def distance(found, expected):
    return ((found - expected).double().norm() / expected.double().norm().clamp_min(1e-30)).item()


if __name__ == "__main__":
    sys.exit(main())
