"""The training job of scripts/peer/recovery on two processes, as torchrun's or torchft's users write it.

`torchrun`: DistributedDataParallel over Gloo, a checkpoint of adapter and optimiser by rank 0 at every step, the newest one
loaded at the start. `torchft`: each process a replica group of its own, state from a peer. Sample k of step s is the same
random tokens everywhere: 2 s + rank. Each step that a process has finished is a line of its log: time, step, sample.
"""

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
from peer import SHAPES, TARGETS
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import AutoModelForCausalLM

LENGTH = 256


def main():
    options = json.loads(os.environ["RECOVERY_OPTIONS"])
    torch.set_num_threads(1)
    {"torchrun": torchrun, "torchft": torchft}[sys.argv[1]](options)


def torchrun(options):
    import torch.distributed as dist

    # The agent's store outlives a restart, and Gloo would find the addresses of the dead in it.
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    store = dist.PrefixStore(f"restart {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    rank = int(os.environ["RANK"])
    dist.init_process_group("gloo", store=store, rank=rank, world_size=int(os.environ["WORLD_SIZE"]))
    model, optimiser = job()
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    newest, log = Path(options["folder"]) / "checkpoint.pt", open_log(options, rank)
    begin = 0
    if newest.exists():
        state = torch.load(newest)
        set_peft_model_state_dict(model, state["adapter"])
        optimiser.load_state_dict(state["optimiser"])
        begin = state["step"]
    for step in range(begin, options["steps"]):
        optimiser.zero_grad()
        loss(parallel, 2 * step + rank).backward()
        optimiser.step()
        if rank == 0:
            state = {"adapter": get_peft_model_state_dict(model), "optimiser": optimiser.state_dict(), "step": step + 1}
            torch.save(state, newest.with_suffix(".new"))
            newest.with_suffix(".new").rename(newest)
        write(log, step + 1, 2 * step + rank)
    end(options, rank, model)
    dist.destroy_process_group()


def torchft(options):
    from torchft import DistributedDataParallel, Manager, Optimizer, ProcessGroupGloo

    replica = int(os.environ["REPLICA"])
    model, optimiser = job()

    def load(state):
        set_peft_model_state_dict(model, state["adapter"])
        optimiser.load_state_dict(state["optimiser"])

    def save():
        return {"adapter": get_peft_model_state_dict(model), "optimiser": optimiser.state_dict()}

    # The time limits of its own example.
    manager = Manager(pg=ProcessGroupGloo(timeout=timedelta(seconds=5)), min_replica_size=1, load_state_dict=load,
                      state_dict=save, replica_id=f"replica_{replica}", timeout=timedelta(seconds=10))
    parallel, managed, log = DistributedDataParallel(manager, model), Optimizer(manager, optimiser), open_log(options, replica)
    while manager.current_step() < options["steps"]:
        managed.zero_grad()
        step = manager.current_step()
        sample = 2 * step + replica
        loss(parallel, sample).backward()
        managed.step()
        if manager.current_step() > step:
            write(log, manager.current_step(), sample)
    end(options, replica, model)
    manager.shutdown()


def job():
    """A random model of 3 M parameters with a LoRA adapter, the same in each process."""
    kind, hidden, intermediate, layers, heads, kv_heads, vocabulary = SHAPES["tiny"]
    config = kind(hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=heads,
                  num_key_value_heads=kv_heads, vocab_size=vocabulary, tie_word_embeddings=True, use_cache=False)
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, bias="none", task_type="CAUSAL_LM", target_modules=TARGETS)
    model = get_peft_model(model, lora)
    return model, torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)


def loss(model, sample):
    ids = torch.randint(0, SHAPES["tiny"][-1], (1, LENGTH), generator=torch.Generator().manual_seed(sample))
    return model(input_ids=ids, labels=ids).loss


def open_log(options, rank):
    (Path(options["folder"]) / f"pid-{rank}").write_text(str(os.getpid()))
    return (Path(options["folder"]) / f"log-{rank}").open("a", buffering=1)


def write(log, step, sample):
    log.write(json.dumps({"time": time.time(), "step": step, "sample": sample}) + "\n")


def end(options, rank, model):
    if rank == 0:
        torch.save(get_peft_model_state_dict(model), Path(options["folder"]) / "final.pt")


main()
