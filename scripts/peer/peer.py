"""One measurement of transformers + PEFT + bitsandbytes, in a process of its own; prints one JSON line.

`make-model` writes a random checkpoint of a shape, `step` times training steps on random tokens. Called by scripts/peer/run,
which explains the settings.
"""

import json
import resource
import sys
import time

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, Qwen2Config

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# The shapes of `worker bench --shape`.
SHAPES = {
    "tiny": (Qwen2Config, 192, 768, 4, 6, 2, 4096),
    "qwen2.5-0.5b": (Qwen2Config, 896, 4864, 24, 14, 2, 151936),
    "smollm2-135m": (LlamaConfig, 576, 1536, 30, 9, 3, 49152),
}


def main():
    options = json.loads(sys.argv[2])
    torch.set_num_threads(options.get("threads", 1))
    print(json.dumps({"make-model": make_model, "step": step}[sys.argv[1]](options)))


def make_model(options):
    kind, hidden, intermediate, layers, heads, kv_heads, vocabulary = SHAPES[options["shape"]]
    config = kind(hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=heads,
                  num_key_value_heads=kv_heads, vocab_size=vocabulary, tie_word_embeddings=True)
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(options["model"])
    return {}


def load(options):
    quantisation = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                      bnb_4bit_compute_dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(options["model"], quantization_config=quantisation, dtype=torch.float32,
                                                 device_map="cpu")
    model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=options.get("checkpointing", True))
    lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=options.get("dropout", 0.05), bias="none", task_type="CAUSAL_LM",
                      target_modules=TARGETS)
    model = get_peft_model(model, lora)
    model.config.use_cache = False
    model.train()
    return model


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def step(options):
    """Mean seconds of a step of one sequence; a share of it is context (label -100)."""
    model, length = load(options), options["seq"]
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    context = max(1, int(length * options.get("context_share", 0.0)))
    generator = torch.Generator().manual_seed(1)

    def one():
        ids = torch.randint(0, model.config.vocab_size, (1, length), generator=generator)
        labels = ids.clone()
        labels[:, :context] = -100
        model(input_ids=ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()

    one()
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(options["steps"]):
        one()
    seconds = (time.perf_counter() - start) / options["steps"]
    return {"tokens_per_s": length / seconds, "seconds_per_step": seconds, "peak_rss_mib": peak_mib(),
            "cpu_seconds_per_step": (time.process_time() - cpu) / options["steps"]}


if __name__ == "__main__":
    main()
