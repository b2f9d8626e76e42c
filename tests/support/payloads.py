"""Payloads as text: those that every reader can hold, and those that are refused, with a word of the reason."""

from __future__ import annotations

DEEP = 100_000
NESTED = "[" * 100 + "]" * 100
TOO_NESTED = '{"a":' * 51 + "[" * 50 + "]" * 50 + "}" * 51

_ACCEPTED = [
    b"null", b"true", b"0", b"-0", b"1e308", b"-1.5E-300", b"1" * 400, b"0." + b"3" * 400, b"18446744073709551616",
    b'""', b'"a"', '"\u00e9\u4e2d\U0001f600"'.encode(), b'"\\ud83d\\ude00"', b'"\\u0001\\u001b[2J"', b'"\x7f"',
    '"\u202e\u2066"'.encode(), b'"\\\\u0000"', b'"\\\\\\\\u0000"', b'"\\\\ud800"', b'"NaN"', b'"' + b"1" * 5000 + b'"',
    b'"' + b"[" * 500 + b'"', b'"\\"' + b"[" * 500 + b'"', b'"\\\\"', b'{"__proto__":1,"constructor":2}',
    b'{"a":1,"a":2}', b'{"":{"":[[],{}]}}', b' [1,\n\t2 ] \r\n', NESTED.encode(), b"[" + b"[],{}," * 300 + b"0]",
    b'["' + b"1" * 5000 + b'",{"a":"\\\\","b":"}}]]"}]',
]  # fmt: skip

_REFUSED = [
    (b"", "not JSON"), (b" ", "not JSON"), (b"x", "not JSON"), (b"{", "not JSON"), (b"[1,]", "not JSON"),
    (b"{'a':1}", "not JSON"), (b"1 2", "not JSON"), (b"01", "not JSON"), (b"+1", "not JSON"), (b".5", "not JSON"),
    (b'"a', "not JSON"), (b'"\n"', "not JSON"), (b'"\x00"', "not JSON"), (b'"\\x41"', "not JSON"),
    (b"\xef\xbb\xbf1", "not JSON"), (b"undefined", "not JSON"), (b"// 1\n1", "not JSON"),
    (b"NaN", "NaN"), (b"-Infinity", "NaN"), (b'{"a":[Infinity]}', "NaN"),
    (b'"\xff"', "UTF-8"), (b'"\xed\xa0\x80"', "UTF-8"), (b'{"\xc3(":1}', "UTF-8"),
    (b'"\\ud800"', "surrogate"), (b'"\\udc00"', "surrogate"), (b'"\\ud800\\ud800"', "surrogate"),
    (b'["\\uD83Dx"]', "surrogate"), (b'{"\\udfff":1}', "surrogate"),
    (b'"\\u0000"', "NUL"), (b'{"a":"x\\u0000y"}', "NUL"), (b'{"\\u0000":1}', "NUL"), (b'"\\\\\\u0000"', "NUL"),
    (b"1" * 401, "400 digits"), (b"-" + b"1" * 5000, "400 digits"), (b'[0,{"a":' + b"9" * 401 + b"}]", "400 digits"),
    (b"0." + b"3" * 401, "400 digits"), (b"1e400", "1.8e308"), (b"[-1e999]", "1.8e308"),
    (TOO_NESTED.encode(), "100 levels"), (b"[" * 10_000 + b"]" * 10_000, "100 levels"), (b"[" * DEEP, "100 levels"),
    (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "100 levels"), (b'["\\"",' * 101 + b"0" + b"]" * 101, "100 levels"),
]  # fmt: skip

_WRAPPERS = (b"%s", b"[%s]", b'{"a":[1,%s,"z"]}', b'[{"__proto__":{"\\"[":"\\\\"},"b":%s}]')
_NOT_INSIDE = {NESTED.encode()}
_BROKEN = (b"", b" ")
"""Empty inside of a list is no error."""

ACCEPTED = [wrapper % raw for wrapper in _WRAPPERS for raw in _ACCEPTED if wrapper == b"%s" or raw not in _NOT_INSIDE]

REFUSED = [
    (wrapper % raw, word)
    for wrapper in _WRAPPERS
    for raw, word in _REFUSED
    if wrapper == b"%s" or (raw not in _BROKEN and word != "not JSON")
]
