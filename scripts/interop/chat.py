"""Renders and tokenises questions and whole solutions with transformers' `apply_chat_template`, for templates in the manner
of published ones and of our own words, and compares with the committed file.

    chat.py BASE FILE           make it anew, compare with FILE; exit 1 if it differs
    chat.py BASE FILE --write   make FILE

`datasets/tests/chat_templates.rs` reads the file and needs no Python. The tokenizer is the built-in base's with the special
tokens below behind its own.
"""

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<|im_start|>", "<|im_end|>", "<|start_header|>", "<|end_header|>", "<|eot|>", "<|begin|>"]
# A loop that puts a system prompt before the first message, as SmolLM2's: everything is in expressions.
CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou calculate in four stages.<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# White space taken by the tags, a branch for tools, a namespace over the reversed messages, methods of texts, as Qwen2.5's.
TOOLS = """{%- if tools is not none %}
    {{- '<|im_start|>system\\nTools:' }}
    {%- for tool in tools %}
        {{- '\\n' ~ (tool | tojson) }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nBạn là trợ lý toán 🧮.<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last=-1) %}
{%- for message in messages[::-1] %}
    {%- if ns.last < 0 and message.role == 'user' and not message.content.startswith('<answer>') %}
        {%- set ns.last = (messages | length) - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role in ['user', 'system'] and not (message.role == 'system' and loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' and message.tool_calls is not defined %}
        {{- '<|im_start|>assistant\\n' + message.content.split('</think>')[-1].lstrip('\\n') + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if ns.last != 0 %}
        {{- raise_exception('the question is not the first message') }}
    {%- endif %}
{%- endif %}
"""
# Text between the tags, which blocks and their lines must not widen, and a trimmed content behind headers, as Llama 3's.
HEADERS = """{{- bos_token }}
{%- if not date is defined %}
    {%- set date = '26 Jul 2024' %}
{%- endif %}
{% macro header(role) %}<|start_header|>{{ role }}<|end_header|>

{% endmacro %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = '' %}
{%- endif %}
{{- header('system') }}
{{- 'Today: ' + date + '\\n\\n' }}
{{- system + '<|eot|>' }}
{%- for message in messages %}
    {%- if not (message.role == 'tool' or 'tool_calls' in message) %}
        {{- header(message['role']) + message['content'] | trim + eos_token }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- header('assistant') }}
{%- endif %}
"""
TEMPLATES = {
    "chatml": {"eos_token": "<|im_end|>", "chat_template": CHATML},
    "tools": {"eos_token": "<|im_end|>", "chat_template": TOOLS},
    "headers": {"bos_token": "<|begin|>", "eos_token": "<|eot|>", "chat_template": HEADERS},
}
QUESTIONS = [
    "Lan có 48 quả táo 🍎 và cho Minh một nửa. Hỏi Lan còn lại bao nhiêu quả?",
    "Let $f(x) = \\frac{x^{2} + 1}{2}$ and $a \\le b$. What is $f(3) \\cdot \\sqrt{4}$?\n\\begin{align*} x &= 3 \\\\ y &< 4 \\end{align*}",
    "Tính $\\int_0^1 2x\\,dx$ khi \\{a, b\\} = {1, 2} 👩‍🏫: đáp số là bao nhiêu?",
    "Tom wrote \"7 < 9 & 3 > 2\" and {{ 2 + 3 }} and {% raw %}. How many numbers are that?",
    "How many?",
]
SOLUTION = {
    "understand": "Given: 48 quả táo 🍎.\nFind: một nửa của $48$.",
    "plan": "1. Halve $\\frac{48}{2}$.",
    "execute": "1. 48 / 2 = 24",
    "verify": "24 * 2 = 48, đúng ✅.",
    "answer": "24",
}


def main():
    base, path = Path(sys.argv[1]), Path(sys.argv[2])
    made = json.dumps(make(base), ensure_ascii=False) + "\n"
    if "--write" in sys.argv:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made, encoding="utf-8")
        return 0
    same = path.read_text(encoding="utf-8") == made
    print(f"{'ok  ' if same else 'FAIL'} chat templates: the committed file is what transformers makes  "
          f"{len(TEMPLATES)} templates, {len(QUESTIONS)} questions", flush=True)
    return 0 if same else 1


def make(base):
    solution = "".join(f"#### {name.upper()} ####\n{SOLUTION[name]}\n\n" for name in SOLUTION if name != "answer")
    solution += f"Final Answer: {SOLUTION['answer']}"
    templates = []
    for name, config in TEMPLATES.items():
        own = Tokenizer.from_file(str(base / "tokenizer.json"))
        own.add_special_tokens(SPECIAL)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=own, clean_up_tokenization_spaces=False, **config)
        templates.append({"name": name, "config": config, "asked": [asked(tokenizer, question, solution) for question in QUESTIONS]})
    return {"special": SPECIAL, "solution": SOLUTION, "templates": templates}


def asked(tokenizer, question, solution):
    """The prompt as text and ids, the ids of it with the solution, and with which of them each stage begins."""
    messages = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    whole = tokenizer(prompt + solution, add_special_tokens=False, return_offsets_mapping=True)
    starts = [start for start, _ in whole["offset_mapping"]]
    stages = [starts.index(len(prompt) + solution.index(f"#### {name.upper()}")) for name in SOLUTION if name != "answer"]
    return {"question": question, "prompt": prompt, "ids": ids, "whole": whole["input_ids"], "stages": stages}


if __name__ == "__main__":
    sys.exit(main())
