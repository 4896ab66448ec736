"""Makes the parity fixtures with transformers, PEFT, bitsandbytes and torch, and compares them with the committed ones.

    make_fixtures.py FOLDER           make them anew, compare with FOLDER; exit 1 if one differs
    make_fixtures.py FOLDER --write   make FOLDER

Everything is random from a seed and small. `worker/tests/parity.rs` reads the files and needs no Python.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import bitsandbytes.functional as bnb
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.utils import logging

VOCABULARY, LENGTH = 64, 40
TAG, TAG_AT = [7, 8, 9], 26
SHAPE = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}
FAMILIES = {
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**SHAPE, rms_norm_eps=1e-6, rope_theta=1e6, tie_word_embeddings=True)),
    "llama": (LlamaForCausalLM, LlamaConfig(**SHAPE, rms_norm_eps=1e-5, rope_theta=1e4, tie_word_embeddings=False)),
}
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
NAMES = ["reasoning", "verification"]
# What stages and weights the training sample has: context, then the four stages, VERIFY from its tag on.
STAGES = [255] * 8 + [0] * 5 + [1] * 6 + [2] * 7 + [3] * 14
WEIGHTS, SMOOTHING, STEPS, WARMUP, PEAK, FLOOR, CLIP = [0.15, 0.35, 0.35, 0.15], 0.1, 50, 5, 1e-3, 1e-6, 0.05


def main():
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="polya-fixtures-") as fresh:
        fresh = Path(fresh)
        for family in FAMILIES:
            make_family(fresh / family, family)
        make_quantised_matrix(fresh / "nf4.safetensors")
        # Twelve digits: the last bits of a cosine are the machine's own.
        rates = [float(f"{rate(step):.12e}") for step in range(STEPS)]
        (fresh / "rates.json").write_text(json.dumps({"peak": PEAK, "minimum": FLOOR, "warmup_steps": WARMUP, "rates": rates}) + "\n")
        if "--write" in sys.argv:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(fresh, folder)
            return 0
        return compare(fresh, folder)


def make_family(folder, family):
    model_class, config = FAMILIES[family]
    torch.manual_seed(5)
    model = model_class(config)
    randomise(model)
    model.to(torch.float16).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    ids = torch.randint(10, VOCABULARY, (LENGTH,))
    ids[TAG_AT:TAG_AT + len(TAG)] = torch.tensor(TAG)
    figures = {"ids": ids, "logits": logits_of(load(folder, family), ids)}
    make_adapters(folder, family)
    figures |= adapter_figures(folder, family, ids)
    figures |= quantised_figures(folder, family, ids)
    figures |= generated(load(folder, family))
    figures |= trained(folder, family, ids)
    save_file({name: tensor.contiguous() for name, tensor in figures.items()}, folder / "figures.safetensors")


def randomise(model):
    """Weights of a size at which every part of the model matters."""
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(weight, 0.5, 1.5)
        elif name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.3)
        else:
            torch.nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)


def load(folder, family, **more):
    # In train(): in eval(), bitsandbytes repacks weights for a bf16 kernel on some processors.
    return FAMILIES[family][0].from_pretrained(folder, dtype=torch.float32, **more).train()


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=ids[None]).logits[0]


def make_adapters(folder, family):
    model = load(folder, family)
    for name in NAMES:
        tokens = TAG if name == "verification" else None
        config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, lora_dropout=0.0, target_modules=PROJECTIONS,
                            alora_invocation_tokens=tokens)
        if name == NAMES[0]:
            model = get_peft_model(model, config, adapter_name=name)
        else:
            model.add_adapter(name, config)
    generator = torch.Generator().manual_seed(11)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data = 0.3 * torch.randn(weight.shape, generator=generator) / weight.shape[-1] ** 0.5
    model.save_pretrained(folder / "adapters")
    (folder / "adapters" / "README.md").unlink(missing_ok=True)
    for name in NAMES:
        path = folder / "adapters" / name / "adapter_config.json"
        config = json.loads(path.read_text())
        config["base_model_name_or_path"] = f"tiny-{family}"
        config["target_modules"] = PROJECTIONS
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def with_adapters(folder, family, names, **more):
    model = PeftModel.from_pretrained(load(folder, family, **more), folder / "adapters" / names[0], adapter_name=names[0],
                                      is_trainable=True)
    for name in names[1:]:
        model.load_adapter(folder / "adapters" / name, adapter_name=name, is_trainable=True)
        # The activated adapter decides where it is on, then both are made active.
        model.set_adapter(name)
        model.base_model.set_adapter(names)
    for name, weight in model.named_parameters():
        weight.requires_grad_("lora_" in name)
    return model.train()


def adapter_figures(folder, family, ids):
    figures = {}
    for case, names in (("reasoning", NAMES[:1]), ("both", NAMES), ("verification", NAMES[1:])):
        model = with_adapters(folder, family, names)
        figures[f"{case}.logits"] = logits_of(model, ids)
        logits = model(input_ids=ids[None]).logits[0, :-1].double()
        torch.nn.functional.cross_entropy(logits, ids[1:]).backward()
        figures |= {f"{case}.{name}": gradient for name, gradient in gradients(model).items()}
    return figures


def gradients(model):
    """By adapter and by the key in its file."""
    return {key_of(name): weight.grad for name, weight in model.named_parameters() if "lora_" in name}


def key_of(name):
    adapter = next(adapter for adapter in NAMES if f".{adapter}." in name)
    return f"grad.{adapter}.{name.replace(f'.{adapter}.', '.')}"


def quantised_figures(folder, family, ids):
    """The base in 4 bits, as bitsandbytes makes it from the files, and the files that it writes."""
    quantised = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                   bnb_4bit_compute_dtype=torch.float32)
    plain = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=False,
                               bnb_4bit_compute_dtype=torch.float32)
    figures = {}
    for name, config in (("nf4", quantised), ("nf4-single", plain)):
        model = load(folder, family, quantization_config=config)
        model.save_pretrained(folder / name)
        figures[f"{name}.logits"] = logits_of(multiplied_out(model), ids)
        (folder / name / "generation_config.json").unlink(missing_ok=True)
    adapted = with_adapters(folder, family, NAMES, quantization_config=quantised)
    figures["nf4.both.logits"] = logits_of(multiplied_out(adapted), ids)
    return figures


def multiplied_out(model):
    """The model with bitsandbytes' codes and constants multiplied here: its own kernel for processors with AVX-512 takes
    another block's constant where a row is no multiple of 64 values (0.50.2)."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, Linear4bit):
                dense = torch.nn.Linear(child.in_features, child.out_features, bias=child.bias is not None)
                dense.weight.data, dense.bias = values_of(child.weight), child.bias
                setattr(module, name, dense)
    return model


def values_of(weight):
    state, packed = weight.quant_state, weight.data.flatten()
    absmax = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset if state.nested else state.absmax
    codes = torch.stack([packed >> 4, packed & 15], dim=1).flatten().long()
    return (state.code[codes].view(-1, state.blocksize) * absmax[:, None]).view(state.shape)


def generated(model):
    """Greedy continuations of three prompts, one after the other, without a stop token."""
    model = model.eval()
    figures = {}
    for index, length in enumerate((3, 9, 17)):
        prompt = torch.arange(10, 10 + length)[None]
        full = model.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=24, do_sample=False)
        figures[f"greedy.{index}"] = full[0, length:]
    return figures


def trained(folder, family, ids):
    """Fifty steps on one sample: stage-weighted and smoothed loss, clipping, AdamW, warm-up and cosine."""
    model = with_adapters(folder, family, NAMES)
    leaves = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(leaves, lr=PEAK, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, foreach=False)
    losses, norms, rates = [], [], []
    for step in range(STEPS):
        optimiser.zero_grad()
        loss = stage_loss(model, ids)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(leaves, CLIP).double())
        rates.append(rate(step))
        for group in optimiser.param_groups:
            group["lr"] = rates[-1]
        optimiser.step()
        losses.append(loss.detach())
    figures = {f"trained.{key_of(name).removeprefix('grad.')}": weight.detach()
               for name, weight in model.named_parameters() if "lora_" in name}
    return figures | {"losses": torch.stack(losses), "norms": torch.stack(norms),
                      "rates": torch.tensor(rates, dtype=torch.float64)}


def stage_loss(model, ids):
    """Tokens 2 to n of the tag are predicted with the verification adapter off, as when generating."""
    on = model(input_ids=ids[None]).logits[0].double()
    model.base_model.set_adapter(NAMES[:1])
    off = model(input_ids=ids[None]).logits[0].double()
    model.base_model.set_adapter(NAMES)
    for name, weight in model.named_parameters():
        weight.requires_grad_("lora_" in name)
    counts = [STAGES.count(stage) for stage in range(4)]
    loss = 0
    for position in range(1, LENGTH):
        stage = STAGES[position]
        if stage < 4:
            in_tag = TAG_AT < position < TAG_AT + len(TAG)
            log_p = (off if in_tag else on)[position - 1].log_softmax(-1)
            mixed = -(1 - SMOOTHING) * log_p[ids[position]] - SMOOTHING * log_p.mean()
            loss = loss + WEIGHTS[stage] / counts[stage] * mixed
    return loss


def rate(step):
    if step < WARMUP:
        return PEAK * (0.1 + 0.9 * step / WARMUP)
    share = torch.tensor((step - WARMUP) / (STEPS - WARMUP), dtype=torch.float64)
    return (FLOOR + (PEAK - FLOOR) * (1 + torch.cos(torch.pi * share)) / 2).item()


def make_quantised_matrix(path):
    """A matrix of several nested blocks, made from integers so that it need not be stored."""
    number = torch.arange(200 * 192, dtype=torch.int64)
    weight = ((number * 2654435761 % 2**32) >> 8).float() / 2**24 - 0.5
    weight[64:128] = 0
    scale = 0.5 + (number // 64 % 97).float() / 97
    weight = (weight * scale).view(200, 192)
    packed, state = bnb.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    single, plain = bnb.quantize_4bit(weight, quant_type="nf4", compress_statistics=False)
    assert torch.equal(packed, single)
    save_file({
        "packed": packed.flatten(), "absmax": plain.absmax, "scale_codes": state.absmax, "nested": state.state2.absmax,
        "offset": state.offset.view(1), "code8": state.state2.code, "code4": state.code,
        "dequantised": bnb.dequantize_4bit(packed, state)[:8].contiguous(),
    }, path)


def compare(fresh, committed):
    faults = []
    names = {path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()}
    faults += [f"{name} is not committed" for name in sorted(names) if not (committed / name).is_file()]
    for name in sorted(names):
        if not (committed / name).is_file():
            continue
        if name.suffix == ".safetensors":
            faults += [f"{name}: {fault}" for fault in differences(load_file(fresh / name), load_file(committed / name))]
        elif name.suffix == ".json" and json.loads((fresh / name).read_text()) != json.loads((committed / name).read_text()):
            faults.append(f"{name} differs")
    for fault in faults:
        print(f"FAIL fixtures: {fault}")
    if not faults:
        print(f"ok   fixtures: {len(names)} files are those that transformers, PEFT and bitsandbytes make here")
    return 1 if faults else 0


def differences(fresh, committed):
    """Numbers that another processor may round otherwise: 2e-5 relative; codes and ids are compared bit for bit."""
    if fresh.keys() != committed.keys():
        yield f"holds {sorted(fresh.keys() ^ committed.keys())[:3]} on one side only"
        return
    for name, tensor in fresh.items():
        other = committed[name]
        if tensor.dtype != other.dtype or tensor.shape != other.shape:
            yield f"{name} has another type or shape"
        elif tensor.is_floating_point():
            error = ((tensor - other).double().norm() / other.double().norm().clamp_min(1e-30)).item()
            if not error < (1e-3 if name.startswith("trained.") else 2e-5):
                yield f"{name} is {error:.1e} off"
        elif not torch.equal(tensor, other):
            yield f"{name} differs in {(tensor != other).sum().item()} places"


if __name__ == "__main__":
    sys.exit(main())
