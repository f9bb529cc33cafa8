"""What CEL's own runtime answers: `python cel_answers.py FILE` in an environment with cel-expr-python 0.1.3.

Each line of the file is one expression and its answer: true, false, or null where the runtime ends in an error. § is
what the expressions below write as {A}. They are by hand, the rest is made by chance from their pieces, the same in
each run.
"""

import json
import random
import sys
from pathlib import Path

A = "device.attributes['gpu.kerf.dev']"
ATTRIBUTES = {"model": "NVIDIA H100 80GB HBM3", "kind": "slice", "index": 3, "mig": False, "nvlink": True}
DEVICE = {"driver": "gpu.kerf.dev", "attributes": {"gpu.kerf.dev": ATTRIBUTES}}
BY_HAND = """
{A}.model.contains('H100') && !{A}.mig
{A}.model == "NVIDIA A100"
{A}.index in [1, 3] || {A}.bus == 'x'
{A}.bus == 'x' || true
false && {A}.bus == 'x'
true && {A}.bus == 'x'
{A}.?bus.orValue('none') == 'none'
{A}.?model.orValue('none') == 'none'
{A}[?'bus'].hasValue()
{A}.?model == optional.of('NVIDIA H100 80GB HBM3')
{A}.?bus == optional.none()
{A}.?bus.or(optional.of('x')).value() == 'x'
{A}.?bus.value() == 'x'
{A}.?model.optMap(m, m.size()).orValue(0) == 21
optional.of({A}).model.orValue('') != ''
has({A}.bus) ? {A}.bus == '0' : {A}.index - 1 == 2
has({A}.model) && !has({A}.bus)
cel.bind(x, {A}, x.index == 3 && !x.mig)
[1, 2, 3].exists(i, i == {A}.index)
[1, 2, 3].all(i, i <= {A}.index)
[1, 2, 3].exists_one(i, i > 2)
[1, 'a'].exists(i, i > 2 || i == 'a')
['a', 3].exists(i, i > 2)
['a', 1].exists(i, i > 2)
[1, 2].map(i, i * 2) == [2, 4]
[1, 2].map(i, i > 1, i * 2) == [4]
[1, 2].filter(i, i > 1) == [2]
{A}.map(k, k).size() == 5
{A}.exists(k, k == 'mig')
'mig' in {A} && !('bus' in {A})
{A}.size() == 5
{A}.model.split(' ')[1] == 'H100'
{A}.model.split(' ', 2) == ['NVIDIA', 'H100 80GB HBM3']
{A}.model.lowerAscii().startsWith('nvidia') && {A}.model.upperAscii().endsWith('HBM3')
{A}.model.matches('^NVIDIA H[0-9]+ ') && !{A}.model.matches('A100|B200')
{A}.model.matches('(?i)hbm3$')
'a\\n'.matches('a$') || '\\u0663'.matches('\\\\d') || 'a\\nb'.matches('a.b')
'\\u00e9'.matches('^.$') && 'a.b'.matches('^a\\\\.b$') && !'axb'.matches('a\\\\.b')
'aaa'.matches('^a{{2,3}}$') && !'aaaa'.matches('^a{{2,3}}$') && 'ab'.matches('^a?b??$')
'x]y'.matches('[\\\\]]') && 'x-y'.matches('[a\\\\-]') && 'q'.matches('[^abc]')
'NVIDIA H200'.matches('\\\\bH[12]00\\\\b') && 'a'.matches('^(?:a|b)$')
'ab'.matches('(')
'aa'.matches('(a)\\\\1')
'abab'.matches('^(ab)+$')
{A}.model.replace('NVIDIA ', '').substring(0, 4) == 'H100'
{A}.model.indexOf('H100') == 7 && {A}.model.charAt(7) == 'H'
{A}.model.substring(30) == ''
['a', 'b'].join('-') == 'a-b' && ['a', 'b'].join() == 'ab'
' x '.trim() == 'x'
{A}.model == 3
{A}.model != 3
{A}.mig == 0
{A}.mig != 'false'
{A}.index == 3.0 && {A}.index < 3.5
{A}.model > 3
{A}.model > 'M' && 'a' > 'B' && false < true
{A}.index > true
{A}.index + 1 == 4 && {A}.index * 2 == 6 && {A}.index % 2 == 1
{A}.index + 1.0 == 4.0
7 / -2 == -3 && -7 % 2 == -1 && 7.0 / 2.0 == 3.5
1 / 0 == 1
1 % 0 == 1
9223372036854775807 + 1 > 0
-9223372036854775808 < 0
-{A}.index == -3 && - -3 == 3
-{A}.model == 'x'
!!{A}.nvlink && !(!true)
!{A}.model
{A}.model && true
{A}.model || true
true || {A}.model
false || {A}.model
{A}.nvlink ? true : {A}.bus
{A}.model ? true : false
[1, 2][1] == 2
[1, 2][2] == 2
[1, 2][?2].hasValue()
[1, 2] == [1, 2] && [1, 2] != [2, 1] && [] == []
[1] + [2] == [1, 2]
{{'a': 1}} == {{'a': 1}} && {{'a': 1}}.a == 1 && {{'a': 1}}['a'] == 1
{{'a': 1}}.b == 1
1 in [1, 2] && !('1' in [1, 2]) && 1.0 in [1]
1 in 'a'
'é'.size() == 1 && size('é') == 1
"a\\"b" == 'a"b' && r'\\d' == '\\\\d' && '\\u00e9' == 'é' && '\\x41' == 'A' && '\\101' == 'A'
'''a
b'''.size() == 3
1.5e3 == 1500.0 && 0x1f == 31 && .5 == 0.5
string(3) == '3' && int('3') == 3 && int(3.9) == 3 && double('1.5') == 1.5 && string(true) == 'true'
int('x') == 1
null == null && null != 1
true // what follows does not count
device.driver == 'gpu.kerf.dev' && device.driver.contains('kerf')
device.driver.x == 1
device.nothing == 1
nothing == 1
1 < 2 == true
1 == 1 == true
true && false || true
true || false && false
1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && 8 - 4 - 2 == 2
"""
TEXTS = (
    f"{A}.model",
    f"{A}.kind",
    f"{A}.bus",
    f"{A}.?bus.orValue('x')",
    "'H100'",
    "'slice'",
    f"{A}.index",
    "'a' + 'b'",
)
NUMBERS = (f"{A}.index", "3", "0", "2.5", f"{A}.numa", f"{A}.?numa.orValue(1)", f"{A}.model.size()", "-1", f"{A}.kind")
TRUTHS = (f"{A}.mig", f"{A}.nvlink", f"has({A}.bus)", "true", "false", f"{A}.index", f"{A}.lost")


def a_truth(chance: random.Random, depth: int) -> str:
    """An expression that is true, false, or none of CEL's types agree on."""
    part = lambda: a_truth(chance, depth - 1)  # noqa: E731
    number = lambda: chance.choice(NUMBERS)  # noqa: E731
    text = lambda: chance.choice(TEXTS)  # noqa: E731
    leaf = (
        lambda: chance.choice(TRUTHS),
        lambda: f"{text()} {chance.choice(['==', '!=', '<', '>='])} {text()}",
        lambda: f"{number()} {chance.choice(['+', '-', '*', '%'])} {number()} {chance.choice(['==', '<', '>'])} 3",
        lambda: f"({text()}).{chance.choice(['contains', 'startsWith', 'endsWith'])}({text()})",
        lambda: f"{chance.choice([text(), number()])} in [{text()}, {number()}]",
        lambda: f"[{number()}, {number()}].{chance.choice(['all', 'exists', 'exists_one'])}(x, x > {number()})",
    )
    if depth == 0:
        return chance.choice(leaf)()
    node = (
        lambda: f"({part()} && {part()})",
        lambda: f"({part()} || {part()})",
        lambda: f"!({part()})",
        lambda: f"({part()} ? {part()} : {part()})",
    )
    return chance.choice(node)()


def main() -> None:
    """Write the table."""
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_bindings, ext_optional, ext_strings

    extensions = [ext_strings.ExtStrings(), ext_optional.ExtOptional(), ext_bindings.ExtBindings()]
    kinds = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    environment = cel.NewEnv(variables={"device": kinds}, extensions=extensions)

    def answer(expression: str) -> bool | None:
        found = environment.compile(expression, disable_check=True).eval(data={"device": DEVICE})
        return found.value() if found.type() == cel.Type.BOOL else None

    chance = random.Random(1)
    joined = BY_HAND.strip().replace("'''a\nb'''", "'''a\0b'''").splitlines()
    expressions = [line.replace("\0", "\n").replace("{A}", A).replace("{{", "{").replace("}}", "}") for line in joined]
    expressions += [a_truth(chance, depth) for depth in (0, 1, 2, 3) for _ in range(80)]
    lines = [
        json.dumps([each.replace(A, "§"), answer(each)], ensure_ascii=False) for each in dict.fromkeys(expressions)
    ]
    Path(sys.argv[1]).write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
