"""transformers' side of scripts/generation/run: loads the model, tells the machine's rates, then generates at each line.

Arguments: model, prompts, longest continuation, threads. One JSON line an answer.
"""

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging


def main():
    logging.disable_progress_bar()
    folder, prompts, max_tokens, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    texts = [json.loads(line)["prompt"] for line in open(prompts, encoding="utf-8")]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    lengths = batch["attention_mask"].sum(1)
    generate(model, tokenizer, batch, 4)
    answer({"threads": threads, "prompt_tokens": [lengths.min().item(), lengths.max().item()], **rates(len(texts))})
    for _ in sys.stdin:
        started = time.perf_counter()
        full = generate(model, tokenizer, batch, max_tokens)
        seconds = time.perf_counter() - started
        answer({"seconds": seconds, "ids": [continuation(row, model) for row in full[:, batch["input_ids"].shape[1]:].tolist()]})


def generate(model, tokenizer, batch, max_tokens):
    with torch.inference_mode():
        return model.generate(**batch, max_new_tokens=max_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id)


def continuation(row, model):
    stop = model.generation_config.eos_token_id
    stop = set(stop) if isinstance(stop, list) else {stop}
    end = next((index for index, token in enumerate(row) if token in stop), len(row))
    return row[:end]


def rates(rows):
    """GB/s of reading memory, GFLOP/s of a large product, and of one with as many rows as the batch."""
    large = torch.randn(64 << 20)
    square, weight, few = torch.randn(1536, 1536), torch.randn(49152, 576), torch.randn(rows, 576)
    return {
        "read_gb_per_s": round(4 * large.numel() / fastest(large.sum) / 1e9, 1),
        "gemm_gflop_per_s": round(2 * 1536**3 / fastest(lambda: square @ square) / 1e9, 1),
        "few_rows_gflop_per_s": round(2 * weight.numel() * rows / fastest(lambda: few @ weight.T) / 1e9, 1),
    }


def fastest(action, times=7):
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started)
    return min(taken)


def answer(value):
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main()
