"""Makes chat.json, which tests/it/chat.rs compares with: what transformers renders for the templates below; needs transformers.

    python tests/golden/chat.py

The templates are made up for this test. Together they use what the templates of published models use, each construct where jinja and other
engines are known to part: whitespace control, Python's string methods, slices, namespaces, macros, tojson, undefined names, exceptions.
"""

import json
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).resolve().parent
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "image_token": "<image>"}

TEMPLATES = {
    # Tags on lines of their own, with and without the signs that keep or eat whitespace.
    "whitespace": "\n  {% for m in messages %}\n    {%- if loop.first %}\n  [first]\n    {%- elif loop.last -%}\n  [last]\n    {% endif %}\n"
    "\t{{ m.role }} \n  {#- a comment -#}\n  {# another #}\n  {{- ':' -}}\n   {{ m['content'] }}\n  {%+ if true %}\n kept \n  {%+ endif +%}\n"
    "{% endfor %}  {% if add_generation_prompt %}\n>{% endif %}\n\n",
    # The roles must alternate after an optional system turn, which is folded into the first user's.
    "alternating": "{%- if messages[0]['role'] == 'system' -%}{%- set said = messages[0]['content'] -%}{%- set turns = messages[1:] -%}"
    "{%- else -%}{%- set said = false -%}{%- set turns = messages -%}{%- endif -%}"
    "{%- for m in turns -%}{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{- raise_exception('roles must alternate, but turn ' ~ loop.index ~ ' of ' ~ turns|length ~ ' is by \"' + m['role'] + '\"') -}}{%- endif -%}"
    "{%- if loop.index0 == 0 and said != false -%}{%- set text = '(' + said + ')\\n\\n' + m['content'] -%}{%- else -%}"
    "{%- set text = m['content'] -%}{%- endif -%}"
    "{%- if m['role'] == 'user' -%}{{- bos_token + '{' + text.strip() + '}' -}}{%- else -%}{{- ' ' + text.strip() + ' ' + eos_token -}}{%- endif -%}"
    "{%- endfor -%}",
    # Strings: the trim filter, methods, slices, formats.
    "strings": "{% for m in messages %}{{ m.role | upper }}|{{ m.content | trim }}|{{ m.content.lstrip() }}|{{ m.content.rstrip('\\n!') }}|"
    "{{ m.content.split() | join(',') }}|{{ m.content.split('\\n') | length }}|{{ m.content.split('</t>')[-1] }}|{{ m.content[:3] }}|"
    "{{ m.content[-2:] }}|{{ m.content.replace('a', 'A') }}|{{ m.content.startswith('A') }}|{{ m.content.endswith(('!', '?')) }}|"
    "{{ m.content | replace('\\n', '\\\\n') }}|{{ m.content.splitlines() | join('/') }}|{{ m.role.title() }}|{{ m.role[0] | upper }}{{ m.role[1:] }}|"
    "{{ '%s-%d' | format(m.role, loop.index) }}|{{ m.content.removeprefix(' ') }}|{{ m.content.rsplit('\\n', 1) | last }}|"
    "{{ m.content.find('\\n') }}|{{ 'user' in m.role }}|{{ m.content | length }}\n{% endfor %}",
    # What is undefined prints as nothing, is false, and is told apart from none.
    "undefined": "{{ missing }}[{{ missing is defined }}{{ tools is defined }}{{ tools is none }}{{ cls_token is defined }}{{ image_token }}]"
    "{% if not missing %}no{% endif %}{% for x in missing %}never{% endfor %}{{ missing | default('there') }}"
    "{% for m in messages %}{% if m.tool_calls is defined and m.tool_calls %}calls{% elif m['name'] is not defined %}plain{% endif %}"
    "{{ m.get('content', '') == m['content'] }}{{ m.get('name', 'none') }}{{ 'content' in m }}{% endfor %}"
    "{{ 'x' if missing is defined and missing.y else 'z' }}{{ tools }}{{ 1 == 1.0 }}{{ none }}{{ [1, 'a', none, true] | length }}",
    # Loop variables, namespaces, break and continue.
    "loops": "{% set ns = namespace(last=-1, seen='', done=false) %}{% for m in messages[::-1] %}{% if m.role == 'user' and not ns.done %}"
    "{% set ns.last = messages | length - 1 - loop.index0 %}{% set ns.done = true %}{% endif %}{% endfor %}last {{ ns.last }}\n"
    "{% for m in messages %}\n{% if m.role == 'system' %}\n{% continue %}\n{% endif %}\n{% set ns.seen = ns.seen + m.role[0] %}\n"
    "{% if loop.index > 4 %}\n...{% break %}\n{% endif %}\n"
    "{{ loop.index }}/{{ loop.length }} {{ loop.revindex0 }} {{ loop.cycle('odd', 'even') }} {{ loop.previtem.role if not loop.first else '-' }} "
    "{{ loop.nextitem.role if loop.nextitem is defined else '-' }}\n{% else %}nothing\n{% endfor %}{{ ns.seen }}"
    "{% for m in messages if m.role == 'assistant' %}<{{ loop.index }}{{ ',' if not loop.last }}>{% endfor %}"
    "{% for m in messages | selectattr('role', 'equalto', 'user') | list %}{{ m.content | trim | length }};{% endfor %}"
    "{{ messages | map(attribute='role') | unique | join('+') }}{{ (messages | last).role }}{{ messages[-1]['role'] }}"
    "{% for key, value in messages[0].items() %}{{ key }}={{ value | length }} {% endfor %}{% for i in range(2, 8, 3) %}{{ i }}{% endfor %}",
    # Macros that call each other, with defaults and names; blocks that are set.
    "macros": "{% macro quoted(text, by='\"', times=1) %}\n{{ by * times }}{{ text }}{{ by * times }}\n{%- endmacro %}\n"
    "{%- macro turn(m, depth=0) -%}\n  {%- if depth < 2 -%}\n    {{- turn(m, depth + 1) -}}\n  {%- else -%}\n    {{- m.role ~ ':' ~ quoted(m.content | trim, times=depth) -}}\n"
    "  {%- endif -%}\n{%- endmacro %}\n{% for m in messages %}\n{{ turn(m) }}{{ quoted(by=\"'\", text=loop.index) }}\n{% endfor %}\n"
    "{% set block %}\n  held {{ messages | length }}\n{% endset %}\n[{{ block }}]{% filter upper %}loud {{ block | trim }}{% endfilter %}"
    "{% call(x) each(messages) %}{{ x.role }}{% endcall %}".replace(
        "{% call(x) each(messages) %}",
        "{% macro each(items) %}{% for item in items %}({{ caller(item) }}){% endfor %}{% endmacro %}{% call(x) each(messages) %}",
    ),
    # JSON as Python writes it.
    "json": "{{ messages | tojson }}\n{{ messages[0] | tojson(indent=2) }}\n{{ messages[-1].content | tojson(ensure_ascii=true) }}\n"
    "{{ {'b': [1, 2.5, none, true, []], 'a': {}, 'c': 1e20, 'd': \"<'&'>\"} | tojson }}\n"
    "{{ {'b': [1, {'x': []}], 'a': {}} | tojson(indent=4, sort_keys=true) }}\n{{ [1, 2] | tojson(separators=(',', ':')) }}",
    # Types, and arithmetic that differs between languages.
    "types": "{% for x in ['a', 1, 1.5, true, none, [1], {'k': 1}, messages, messages[1:]] %}{{ x is string }} {{ x is number }} {{ x is integer }} "
    "{{ x is mapping }} {{ x is sequence }} {{ x is iterable }} {{ x is boolean }} {{ x is none }} {{ x is true }}\n{% endfor %}"
    "{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ 'a' * 3 }} {{ 1 ~ 'b' ~ true }} {{ ([1] + [2]) | length }} {{ 'b' > 'a' }} "
    "{{ (1, 2)[1] }} {{ 'x' not in 'abc' and not false or none }} {{ '5' | int + 1 }} {{ 3.7 | int }} {{ 2.5 | round }} {{ 1.0 }} {{ 10 | string + '0' }} "
    "{{ ['a', \"it's\", none, true, 1.0, []] }} {{ {'k': 'v', 1: [2]} }} {{ ('a', 1) }}",
    # Blocks that mark the assistant's words, as training data has them.
    "generation": "{% for m in messages %}\n{% if m.role == 'assistant' %}\n  {%- generation %}\n{{ m.content }}{{ eos_token }}\n  {% endgeneration %}\n"
    "{% else %}\n{{ m.role }}: {{ m.content }}\n{% endif %}\n{%- generation -%}  {%- endgeneration -%}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}",
    # A template that looks for what an engine offers, and escapes in its literals.
    "probing": "{% if strftime_now is defined %}dated{% endif %}{{ '\\u00e9\\t\\x41\\101\\\\n\\d' }}{{ \"it's\" }}{{ 'say \"x\"' }}\r\n{% raw %}{{ raw }}{% endraw %}\r\n"
    "{% set a, b = 1, 'two' %}{{ a }}{{ b }}{% with x = 3 %}{{ x }}{% endwith %}{{ x is defined }}{% if messages[9] is defined %}tenth{% endif %}"
    "{{ messages[0].content is string and messages[0].content != '' }}{{ dict(k=1).k }}{{ ['q', 'p'] | sort | first }}\r",
}

CHATS = {
    "user": [("user", "Hello")],
    "system": [("system", "Be brief."), ("user", "  What is 1 + 1?\n")],
    "empty system": [("system", ""), ("user", "a\n\nb\n")],
    "turns": [("user", " Hi there!\n"), ("assistant", "\n\nHow are\u2028you? "), ("user", "\u00a0fine\x1c\t"), ("assistant", "Good </t> then"), ("user", "A banana!")],
    "long": [("system", "S\r\nT")] + [("user", "naïve – 日本語 🎬 <s>"), ("assistant", "\"quoted\" \\ and \x07 'single'")] * 3,
    "two users": [("user", "one"), ("user", "two")],
    "assistant first": [("system", "s"), ("assistant", "I begin"), ("user", "no")],
}


def rendered(template, chat, add_generation_prompt):
    messages = [{"role": role, "content": content} for role, content in chat]
    try:
        (text,), _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=add_generation_prompt, **SPECIAL)
        return {"text": text}
    except Exception as error:
        return {"raises": str(error)}


values = {
    "special": SPECIAL,
    "templates": TEMPLATES,
    "chats": CHATS,
    "rendered": {
        name: {chat: [rendered(template, CHATS[chat], flag) for flag in (False, True)] for chat in CHATS} for name, template in TEMPLATES.items()
    },
}
(HERE / "chat.json").write_text(json.dumps(values, ensure_ascii=True, indent=0) + "\n")
