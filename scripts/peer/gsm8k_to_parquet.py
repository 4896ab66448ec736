#!/usr/bin/env python3
"""What `datasets parse --source gsm8k` does, in straightforward Python: json, re, fractions and pyarrow.

Rows of GSM8K become four stages: the annotations are calculated as rationals and checked, cut into single operations,
named in words with the origins of their operands, undone again, and every line is read back. `scripts/bench-datasets`
times it and says in how many rows each column is the same as ours.

    gsm8k_to_parquet.py train.jsonl out.parquet
"""

import hashlib
import json
import re
import sys
import unicodedata
from fractions import Fraction
from pathlib import Path

WHOLE = dict(zip("one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split(), range(1, 20)))
WHOLE |= dict(zip("twenty thirty forty fifty sixty seventy eighty ninety hundred".split(), range(20, 101, 10)))
OTHER = {"half": "1/2", "twice": "2", "dozen": "12", "third": "1/3", "thirds": "1/3", "double": "2", "triple": "3", "thrice": "3", "quarter": "1/4", "quarters": "1/4"}
PARTS = {name + end: Fraction(1, under) for under, name in enumerate("fourth fifth sixth seventh eighth ninth tenth".split(), 4) for end in ("", "s")}
WORDS = {word: Fraction(value) for word, value in (WHOLE | OTHER).items()} | PARTS
SIGNS = {"½": Fraction(1, 2), "¼": Fraction(1, 4), "¾": Fraction(3, 4)}
DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
QUANTITY = re.compile(rf"(?P<word>[A-Za-z]+)|(?P<sign>[½¼¾])|(?P<over>{DIGITS})(?:/(?P<under>{DIGITS}))?")

ANNOTATION = re.compile(r"<<(.*?)>>")
TOKEN = re.compile(r"\d*\.?\d+|//|[-+*/()]")
IN_PROSE = re.compile(r"[-(]*\$?(?:\d[\d,]*\.?\d*|\.\d+)%?\)*(?:\s*[-+*/x×÷]\s*[-(]*\$?(?:\d[\d,]*\.?\d*|\.\d+)%?\)*)+\s*=\s*\$?((?:\d[\d,]*\.?\d*|\.\d+))")
NAMES = ("UNDERSTAND", "PLAN", "EXECUTE", "VERIFY")
TRACE = re.compile(r"Question: (.*)\n\nSolution:\n" + "".join(f"#### {name} ####\n(.*)\n\n" for name in NAMES) + "Final Answer: (.*)", re.S)
STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2}
UNDO = {"+": "-", "-": "+", "*": "/", "/": "*", "//": "*"}
UNDONE = "Each step undone gives back what it began with."
NOTHING = "The steps hold no sum of plain numbers, so nothing here was recomputed."
HUNDRED = Fraction(100)


def main(source, output):
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    rows, seen, data = [], set(), Path(source).read_bytes()
    for index, line in enumerate(data.decode().split("\n")):
        if line:
            record = json.loads(line)
            key = " ".join(unicodedata.normalize("NFC", record["question"]).lower().split()).rstrip(". ")
            if key not in seen:
                seen.add(key)
                rows.append(row(index, record))
    table = arrow.Table.from_pylist(rows)
    metadata = {"source_hash": hashlib.blake2b(data).hexdigest()}
    parquet.write_table(table.replace_schema_metadata(metadata), output, compression="snappy")


def row(index, record):
    """One problem as a row."""
    question = unicodedata.normalize("NFC", record["question"].strip())
    solution, final = record["answer"].rsplit("####", 1)
    final = Fraction(final.strip().lstrip("$").replace(",", ""))
    annotations = [annotation(text) for text in ANNOTATION.findall(solution)]
    sums = [each for each in annotations if isinstance(each[0], tuple)]
    reaches = bool(sums) and sums[-1][1] == final
    in_prose = [] if reaches else sums_in_prose(solution)
    if not reaches and (makers := [at for at, each in enumerate(in_prose) if each[1] == final]):
        sums, reaches = in_prose[: makers[-1] + 1], True
    meta = {"exact": bool(annotations) and annotations[-1][1] == final}
    if reaches:
        once = [each for at, each in enumerate(sums) if at == 0 or each != sums[at - 1]]
        steps = [step for expression, _ in once for step in cut(without_ones(expression))[1]]
        stages = [understand(question, steps), plan(steps), numbered(made(step) for step in steps)]
        stages.append(numbered(undone(step) for step in steps) + "\n" + UNDONE)
    else:
        steps, checks = [], []
        for step in (step for expression, _ in in_prose for step in cut(without_ones(expression))[1]):
            if (line := undone(step)) not in checks:
                steps.append(step)
                checks.append(line)
        lines = (re.sub(ANNOTATION, "", line).strip() for line in solution.split("\n"))
        stages = [understand(question, steps), plan(steps) or "Go from what is given to the goal.", "\n".join(filter(None, lines))]
        stages.append(numbered(checks) + "\n" + UNDONE if steps else NOTHING)
        written = [f"{text_of(expression)} = {value}" for expression, value in annotations]
        meta = {"annotations": written, "checked": len(steps), "prose": True} | meta
    stages = [unicodedata.normalize("NFC", stage) for stage in stages]
    answer = decimal(final)
    text = f"Question: {question}\n\nSolution:\n" + "".join(f"#### {name} ####\n{stage}\n\n" for name, stage in zip(NAMES, stages))
    if TRACE.fullmatch(text + f"Final Answer: {answer}").groups() != (question, *stages, answer):
        raise ValueError(f"row {index}: the canonical text is not read back")
    return {
        "id": f"gsm8k/train/{index}", "source": "gsm8k", "split": "train", "question": question,
        "understand": stages[0], "plan": stages[1], "execute": stages[2], "verify": stages[3], "answer": answer,
        "language": "en", "corrective": False, "planted": None, "weights": None,
        "meta": json.dumps(meta | {"steps": len(steps)}, separators=(",", ":")),
    }


def annotation(text):
    """An expression and the value that it must make."""
    left, right = text.rsplit("=", 1)
    expression, value = read(left), value_of(read(right))
    if value_of(expression) != value:
        raise ValueError(f"`{text}` makes {value_of(expression)}")
    return expression, value


def sums_in_prose(solution):
    """The true sums of a solution, annotated or not; one that an annotation of its line repeats counts once."""
    found = []
    for line in solution.split("\n"):
        places = [(match.start(), annotation(match[1])) for match in ANNOTATION.finditer(line)]
        places = [(at, each) for at, each in places if isinstance(each[0], tuple)]
        plain = re.sub(ANNOTATION, lambda match: "\0" * len(match[0]), line)
        if "=" in plain:
            for match in IN_PROSE.finditer(plain.replace("\0", "")):
                left, right = match[0].replace(",", "").replace("$", "").replace("x", "*").replace("×", "*").replace("÷", "/").rsplit("=", 1)
                try:
                    expression, value = read(left.replace("%", "/100")), value_of(read(right))
                    holds = value_of(expression) == value
                except (ValueError, ZeroDivisionError, IndexError):
                    continue
                if holds and all(value != other[1] for _, other in places):
                    places.append((match.start(), (expression, value)))
        found += [each for _, each in sorted(places, key=lambda place: place[0])]
    return found


# Expressions: a Fraction, or (sign, left, right).


def read(text):
    """By descent."""
    tokens, at = TOKEN.findall(text), 0

    def take():
        nonlocal at
        at += 1
        return tokens[at - 1]

    def atom():
        token = take()
        if token == "(":
            inner = total()
            take()
            return inner
        return negative(atom()) if token == "-" else atom() if token == "+" else exact(token)

    def product():
        left = atom()
        while at < len(tokens) and tokens[at] in ("*", "/", "//"):
            left = (take(), left, atom())
        return left

    def total():
        left = product()
        while at < len(tokens) and tokens[at] in "+-":
            left = (take(), left, product())
        return left

    return total()


def exact(digits):
    return Fraction(digits.replace(",", ""))


def negative(inner):
    return -inner if isinstance(inner, Fraction) else ("-", Fraction(0), inner)


def value_of(expression):
    if isinstance(expression, Fraction):
        return expression
    sign, left, right = expression
    return operate(sign, value_of(left), value_of(right))


def operate(sign, a, b):
    if sign == "+":
        return a + b
    if sign == "-":
        return a - b
    if sign == "*":
        return a * b
    return a / b if sign == "/" else Fraction(a // b)


def numbers_of(expression):
    if isinstance(expression, Fraction):
        return [expression]
    return numbers_of(expression[1]) + numbers_of(expression[2])


def without_ones(expression):
    """`60 * 1 / 4` as `60 / 4`."""
    if isinstance(expression, Fraction):
        return expression
    sign, left, right = expression
    if sign == "/" and isinstance(left, tuple) and left[0] == "*" and left[2] == 1:
        left = left[1]
    return sign, without_ones(left), without_ones(right)


def cut(expression):
    """What stands for an expression's value, and its steps: one operation each, but where a value on the way is no decimal."""
    if isinstance(expression, Fraction):
        return expression, []
    sign, left, right = expression
    if power := power_of(expression):
        base, steps = cut(power[0])
        left_part, right_part = base, base
        for _ in range(2, power[1]):
            left_part = ("*", left_part, base)
    else:
        (left_part, before), (right_part, after) = cut(left), cut(right)
        steps = before + after
    if any(is_fraction(step[1]) for step in steps):
        steps, left_part, right_part = [], left, right
    value = operate(sign, value_of(left_part), value_of(right_part))
    return value, [*steps, ((sign, left_part, right_part), value)]


def power_of(expression):
    """Base and exponent of a product of three or more equal factors."""
    rest, factors, base = expression, 1, None
    while isinstance(rest, tuple) and rest[0] == "*" and (base is None or rest[2] == base):
        rest, factors, base = rest[1], factors + 1, rest[2]
    return (base, factors) if factors > 2 and rest == base else None


# Numbers and expressions as text.


def is_fraction(value):
    return 10**6 % value.denominator != 0


def decimal(value):
    """Within six places, else as n/d."""
    if value.denominator == 1:
        return str(value.numerator)
    return str(value) if is_fraction(value) else f"{float(value):.6f}".rstrip("0")


def number(value):
    return f"({decimal(value)})" if is_fraction(value) else decimal(value)


def text_of(expression, write=number):
    """`write` is asked for each number, from left to right."""
    if isinstance(expression, Fraction):
        return write(expression)
    sign, left, right = expression
    first = text_of(left, write)
    if isinstance(left, tuple) and STRENGTH[left[0]] < STRENGTH[sign]:
        first = f"({first})"
    second = text_of(right, write)
    if isinstance(right, tuple):
        is_associative = right[0] == sign and sign in "+*"
        if STRENGTH[right[0]] <= STRENGTH[sign] and not is_associative:
            second = f"({second})"
    elif second.startswith("-"):
        second = f"({second})"
    return f"{first} {sign} {second}"


# The stages.


def numbered(lines):
    return "\n".join(f"{at}. {line}" for at, line in enumerate(lines, 1))


def read_back(line):
    """The line, if what stands in it holds."""
    left, right = line.split(", ")[0].split(" = ")
    if value_of(read(left)) != value_of(read(right)):
        raise ValueError(f"`{line}` does not hold")
    return line


def made(step):
    expression, value = step
    return read_back(f"{text_of(expression)} = {decimal(value)}")


def undone(step):
    """The inverse operation on what a step made."""
    expression, value = step
    if (power := power_of(expression)) and value != 0:
        rest = value
        for _ in range(1, power[1]):
            rest = ("/", rest, power[0])
        return read_back(f"{text_of(rest)} = {decimal(value_of(rest))}")
    sign, left, right = expression
    a, b = value_of(left), value_of(right)
    undo = ("*", b, a) if sign == "*" and b == 0 else (UNDO[sign], value, b)
    back = value_of(undo)
    remainder = f", {decimal(a - back)} remain" if sign == "//" and back != a else ""
    return read_back(f"{text_of(undo)} = {decimal(back)}{remainder}")


def plan(steps):
    """Each step in words; a number that an earlier step made is named by the latest that did."""
    lines, results = [], []
    for expression, value in steps:
        power = power_of(expression)
        numbers = numbers_of(power[0] if power else expression)
        names = iter([name(numbers, at, results) for at in range(len(numbers))])
        parts = lambda part: text_of(part, lambda _: next(names))
        sign, left, right = expression
        if power:
            base = parts(power[0])
            line = f"Raise {f'({base})' if isinstance(power[0], tuple) else base} to the power {power[1]}"
        elif isinstance(left, tuple) or isinstance(right, tuple):
            line = f"Calculate {parts(expression)}"
        else:
            left, right = parts(left), parts(right)
            if sign == "+":
                line = f"Add {right} to {left}"
            elif sign == "-":
                line = f"Subtract {right} from {left}"
            else:
                line = f"{'Multiply' if sign == '*' else 'Divide'} {left} by {right}{' and round down' if sign == '//' else ''}"
        lines.append(line + ".")
        results.append(value)
    return numbered(lines)


def name(numbers, at, results):
    """Of equal numbers in a step the last one comes from the latest result, the one before it from the one before that."""
    equal = [step for step in range(len(results) - 1, -1, -1) if results[step] == numbers[at]]
    if not equal:
        return number(numbers[at])
    later = numbers[at + 1 :].count(numbers[at])
    return f"step {equal[min(later, len(equal) - 1)] + 1}"


def understand(question, steps):
    """The quantities of the question in its order, the other numbers that no step makes, and the goal."""
    matches = [match for match in QUANTITY.finditer(question) if not match["word"] or match["word"].lower() in WORDS]
    given = quantities(question, matches)
    values = {value for match in matches for value in values_of(match)}
    stated, also = [text for _, _, _, text in given], []
    for at, (expression, _) in enumerate(steps):
        for value in numbers_of(expression):
            is_used = any(value == whole or value in parts or is_percent and value * HUNDRED == whole for whole, parts, is_percent, _ in given)
            if is_used or value not in values and any(value == earlier for _, earlier in steps[:at]):
                continue
            text = decimal(value)
            mine, other = (stated, also) if value in values else (also, stated)
            if text not in other:
                mine.append(text)
    lines = [f"{title}: {', '.join(dict.fromkeys(texts))}.\n" for title, texts in (("Given", stated), ("Also used", also)) if texts]
    return "".join(lines) + f"Goal: {goal(question)}"


def goal(question):
    """The last sentence that asks, else the last one."""
    sentences = re.split(r"(?<=[.?!])(?<! !)\s+(?!(?<=!\s)[^A-Z])", question.strip())
    asking = [sentence for sentence in sentences if sentence.endswith("?")]
    return " ".join((asking or sentences)[-1].split())


def values_of(match):
    """What a place of a question says, each way that it may be read."""
    if word := match["word"]:
        return () if word.lower() in PARTS else (WORDS[word.lower()],)
    if match["sign"]:
        return ()
    over = exact(match["over"])
    under = exact(match["under"]) if match["under"] else None
    return (over, over / under) if under else (over,)


def quantities(question, matches):
    """What the question gives: value, the two numbers it is written as, whether it is in percent, and as it is listed."""
    found = []
    for match in matches:
        parts, is_word, start, end = (), bool(match["word"]), match.start(), match.end()
        if is_word:
            value = WORDS[match["word"].lower()]
            parts = (Fraction(value.numerator), Fraction(value.denominator)) if value.denominator > 1 else ()
        elif match["sign"]:
            value = SIGNS[match["sign"]]
            parts = (Fraction(value.numerator), Fraction(value.denominator))
        else:
            value = exact(match["over"])
            under = exact(match["under"]) if match["under"] else None
            if under and question[end : end + 1] != "/" and question[start - 1 : start] != "/":
                parts, value = (value, under), value / under
            elif under:
                found.append([value, (), False, start, match.end("over"), False])
                start, value = match.start("under"), under
            if re.search(r"(?:^|[^\w)\]}%-])-\s*$", question[:start][-4:]):
                value, parts = -value, ()
        is_vague = is_word and (value < Fraction(1, 2) or value == 1)
        if found and (both := joined(found[-1], question[found[-1][4] : start], value, parts, is_word)):
            found[-1] = [*both, found[-1][2], found[-1][3], end, False]
        else:
            found.append([value, parts, is_word, start, end, is_vague])
    kept = []
    for value, parts, _, start, end, is_vague in found:
        if is_vague and not re.search(r"(?:^| )[aA]\s+$", question[:start][-6:]):
            continue
        is_percent = bool(re.match(r"\s*(?:%|percent)", question[end : end + 16]))
        text = "/".join(decimal(part) for part in parts) if parts else decimal(value)
        kept.append((value, parts, is_percent, text + "%" * is_percent))
    return kept


def joined(before, between, value, parts, is_word):
    """The one quantity that two neighbours are, with its parts: `2 1/2`, `twenty-five`, `two thirds`, `three hundred`."""
    first = before[0]
    if between not in ("", " ", "-", " and a ") or first.denominator != 1:
        return None
    is_half = value == Fraction(1, 2)
    if is_word and between == " and a " and is_half:
        both = first + value
    elif not before[2] and not is_word and between in ("", " ") and parts and value < 1:
        both = first + value
    elif before[2] and is_word and between in (" ", "-"):
        if value.denominator == 1 and 20 <= first <= 90 and first % 10 == 0 and value <= 9:
            both = first + value
        elif value == 100 and first < 20:
            both = first * value
        elif value.denominator > 1 and first == 1:
            both = value
        elif value.denominator > 1 and not is_half:
            both = first * value
        else:
            return None
    else:
        return None
    return both, (Fraction(both.numerator), Fraction(both.denominator)) if both.denominator > 1 and both < 1 else ()


if __name__ == "__main__":
    main(*sys.argv[1:])
