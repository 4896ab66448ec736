"""transformers' side of scripts/peer/gsm8k, in a process of its own: what to do as the argument, options as JSON on standard
input, the answer as one JSON line.
"""

import json
import sys
import time
from pathlib import Path

import torch
import transformers
from peer import load, peak_mib

TAG = "#### UNDERSTAND ####"


def main():
    options = json.load(sys.stdin)
    torch.set_num_threads(options.get("threads", 1))
    torch.manual_seed(1)
    transformers.utils.logging.disable_progress_bar()
    does = {"initial-adapter": initial_adapter, "steps": train, "statistics": statistics, "plot": plot}
    print(json.dumps(does[sys.argv[1]](options)))


def initial_adapter(options):
    """The adapter that both sides begin with."""
    load(options).save_pretrained(options["adapter"])
    return {}


def train(options):
    """Trains the steps as told; the mean loss of each one's learned tokens, and samples a second from the second step on."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    model = load(options)
    set_peft_model_state_dict(model, load_file(Path(options["adapter"]) / "adapter_model.safetensors"))
    samples = encoded(options)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, eps=1e-8, weight_decay=0.01)
    losses, started, count = [], None, 0
    for number, step in enumerate(options["steps"]):
        rows = [samples[identity] for identity in step["ids"]]
        learned = sum(sum(label != -100 for label in labels) for _, labels in rows)
        if step["learned"] not in (None, learned):
            sys.exit(f"step {number + 1} learns {learned} tokens here and {step['learned']} there")
        total = 0.0
        for ids, labels in rows:
            loss = model(**batch(ids, labels, options.get("padded")), num_items_in_batch=learned).loss
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.param_groups[0]["lr"] = step["rate"]
        optimiser.step()
        optimiser.zero_grad()
        losses.append(total)
        if started is None:
            started = time.perf_counter()
        else:
            count += len(rows)
    return {"loss": losses, "samples_per_s": count / (time.perf_counter() - started), "peak_rss_mib": peak_mib()}


def encoded(options):
    """By id: token ids and labels; what stands before the first tag is not learned."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(options["model"])
    # Texts outside a chat end so, whatever ends a turn in one.
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    samples = {}
    for line in Path(options["samples"]).read_text().splitlines():
        row = json.loads(line)
        text = (f"Question: {row['question']}\n\nSolution:\n{TAG}\n{row['understand']}\n\n#### PLAN ####\n{row['plan']}\n\n"
                f"#### EXECUTE ####\n{row['execute']}\n\n#### VERIFY ####\n{row['verify']}\n\nFinal Answer: {row['answer']}")
        begins = text.index(TAG)
        tokens = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = [*tokens["input_ids"], end]
        labels = [token if start >= begins else -100 for token, (start, _) in zip(ids, tokens["offset_mapping"])]
        samples[row["id"]] = (ids, [*labels, end])
    return samples


def batch(ids, labels, padded):
    missing = max(0, (padded or 0) - len(ids))
    return {"input_ids": torch.tensor([ids + [0] * missing]), "labels": torch.tensor([labels + [-100] * missing]),
            "attention_mask": torch.tensor([[1] * len(ids) + [0] * missing])}


def statistics(options):
    import pyarrow.parquet

    return pyarrow.parquet.read_table(options["folder"], columns=["step", "tokens", "loss", "lr"]).to_pylist()


def plot(options):
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, 1, sharex=True, figsize=(8, 5.5), height_ratios=[3, 1], layout="constrained")
    (first, ours), (second, theirs) = options["curves"].items()
    steps = range(1, len(ours) + 1)
    above.plot(steps, theirs, color="#f28e2b", linewidth=5, alpha=0.55, label=second)
    above.plot(steps, ours, color="#1f4e79", linewidth=1.5, marker="o", markersize=3, label=first)
    above.set(ylabel="loss, nats a learned token", ylim=(0, None), title=f"{XX, the same samples in the same steps")
    above.legend(frameon=False)
    below.plot(steps, [a - b for a, b in zip(ours, theirs)], color="#1f4e79", linewidth=1.2)
    below.axhline(0, color="grey", linewidth=0.6)
    below.set(xlabel="step", ylabel="difference")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(options["plot"], dpi=110)
    return {}


if __name__ == "__main__":
    main()
