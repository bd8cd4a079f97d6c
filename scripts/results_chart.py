"""Draws docs/demo.svg from the demo's table in docs/results.md.

A row of dots with 95 % intervals for each model; colours are mid-tones without a background, so
that the picture reads on light pages and on dark ones.

    python3 scripts/results_chart.py
"""

import html
import pathlib

DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs"
MODELS = {
    "base": "A larger model that was never tuned",
    "other": "Another one, whose vocabulary the guides do not share",
    "guide": "The small guides, sampled alone",
}
METHODS = {
    ("base", "base"): ("plain sampling", "plain"),
    ("base", "best_of_n"): ("best of 16", "best"),
    ("base", "cbs"): ("weak-to-strong search", "search"),
    ("guide", "untuned"): ("untuned", "plain"),
    ("guide", "tuned"): ("tuned", "best"),
}
COLOURS = {"plain": "#7d8590", "best": "#3f8ed0", "search": "#d9722b", "text": "#7d8590"}
WIDTH, LEFT, RIGHT, ROW = 760, 190, 50, 26


def rows():
    """(model, method, mean, low and high of the interval) of the first table after the heading."""
    text = (DOCS / "results.md").read_text().split("## `demo.toml`")[1].split("```")[1]
    lines = [line for line in text.split("\n\n")[0].splitlines() if line.startswith("| ")]
    head, *cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    found = []
    for row in (dict(zip(head, row)) for row in cells):
        low, high = map(float, row["95 %"].split(" … "))
        found.append((row["base"], row["method"], float(row["gold reward"]), low, high))
    return found


def text(x, y, words, *, anchor="start", colour=COLOURS["text"], size=13, weight=400):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
        f'font-size="{size}" font-weight="{weight}">{html.escape(words)}</text>'
    )


def line(x1, y1, x2, y2, colour, width, more=""):
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="{width}"{more}/>'
    )


def chart(table):
    low, high = -3, 6
    place = lambda value: LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)
    title = "Gold reward of 200 film reviews (mean, 95 % interval)"
    parts, y = [text(0, 16, title, size=15, weight=600)], 32
    for model, title in MODELS.items():
        y += 24
        parts.append(text(0, y, title, weight=600))
        top = y + 12
        for (kind, method), (label, colour) in METHODS.items():
            found = [row for row in table if row[:2] == (model, method)]
            if not found or (kind == "guide") != (model == "guide"):
                continue
            (_, _, mean, least, most), y, colour = found[0], y + ROW, COLOURS[colour]
            parts.append(text(LEFT - 14, y + 4, label, anchor="end", colour=colour))
            parts.append(line(place(least), y, place(most), y, colour, 3))
            parts.append(f'<circle cx="{place(mean):.1f}" cy="{y}" r="5.5" fill="{colour}"/>')
            parts.append(text(place(most) + 8, y + 4, f"{mean:.2f}", colour=colour))
        for value in range(low, high + 1):
            dash = "" if value == 0 else ' stroke-dasharray="2 4"'
            x = place(value)
            parts.insert(0, line(x, top, x, y + 14, COLOURS["text"], 0.6, dash))
        y += 14
    bottom = y
    for value in range(low, high + 1):
        parts.append(text(place(value), bottom + 18, f"{value}", anchor="middle", size=12))
    parts.append(text(place(low), bottom + 36, "← negative reviews", size=12))
    parts.append(text(place(high), bottom + 36, "positive reviews →", anchor="end", size=12))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 44}" '
        f'font-family="system-ui, sans-serif">\n' + "\n".join(parts) + "\n</svg>\n"
    )


if __name__ == "__main__":
    (DOCS / "demo.svg").write_text(chart(rows()))
