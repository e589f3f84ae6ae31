"""``python benchmarks/readme_tables.py``: write README's and the docs' tables from the files here."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from sharpkd.evaluation.console import harmed_share
from sharpkd.evaluation.rows import decibels, lpips_name

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
SETS = ("Set14", "Kodak24")
WEIGHTS = ("alpha", "beta", "gamma", "delta")
# the students that come with the package
SHIPPED = ("fast", "balanced", "quality")
SWEPT_BACKBONE = "squeeze"
SWEPT = {"val/psnr": 2, "val/ssim": 4, "val/lpips": 4}
# the scoreboards of distillation/run.sh, and what they change beside the number of steps
BOARDS = {
    "methods": "",
    "gentle": ", a tenth of the term's weight",
    "short": "",
    "weights": ", no SSIM term (γ 0)",
    "terms": ", no SSIM term (γ 0)",
    "few": ", 8 labelled photographs",
    "teacher": ", no SSIM term (γ 0), no truth (α 0)",
    "size": ", a student of 44,108 parameters",
}

SCALING = {
    "step": "a training step of the student (`pixel_student`, 44,108 parameters), for each 96×96 crop, at "
    "1, 4, 16 crops a step",
    "teacher": "the answer of the teacher `nafnet`, for each crop, at 1, 4 crops",
    "rank, apart": "a rank's step of 8 crops, gradients not averaged, on 1, 2, 4 ranks (gloo)",
    "rank, together": "the same, averaged by DDP",
    "rank, message": "a message: 8 numbers averaged among 1, 2, 4 ranks",
    "loader": "a crop from the memory-mapped cache, cut, blurred and collated, by 0, 1, 2 workers, their "
    "start included",
    "picture, fast": "a picture of 160×120, 320×240, 640×480, 1280×960 by `fast`, PNG to PNG, in one thread",
    "picture, balanced": "by `balanced`, up to 640×480",
    "picture, quality": "by `quality`, up to 640×480",
}
"""What rows of scaling/scaling.csv mean, in docs/scaling.md's order."""


def table(results: dict[str, dict[str, Any]]) -> str:
    """README's table as Markdown: absolute values, gain over the input in brackets."""
    names = [name for name in results[SETS[0]] if name != "_meta"]
    head = ["", *(f"{name} PSNR (dB)" for name in SETS), *(f"{name} SSIM" for name in SETS)]
    lines = ["| " + " | ".join([*head, "parameters", "kMAC/px", "ms, 640×480"]) + " |"]
    lines.append("| --- |" + " ---: |" * (len(head) + 2))
    for name in names:
        readable = name.replace("_student_", " student, ").replace("enhanced_cnn_", "enhanced CNN, ")
        readable = readable.replace("scratch", "from scratch").replace("distill", "distilled")
        cells = [readable.replace("_", " ")]
        for metric, digits in (("psnr", 2), ("ssim", 4)):
            for chosen in SETS:
                value, base = (results[chosen][key][metric] for key in (name, "input"))
                gain = "" if name == "input" else f" ({value - base:+.{digits}f})"
                cells.append(f"{value:.{digits}f}{gain}")
        entry = results[SETS[0]][name]
        if name == "input":
            cells += ["", "", ""]
        else:
            cells += [
                f"{entry['parameters']:,}",
                f"{entry['macs_per_pixel'] / 1000:.1f}",
                f"{entry['ms_per_image']:.0f}",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def sweep_table(rows: list[dict[str, str]]) -> str:
    """The sweep's rows as Markdown, best first."""
    lines = [
        f"| α | β | γ | δ | PSNR (dB) | SSIM | {lpips_name(SWEPT_BACKBONE)} |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        weights = [f"{float(row[f'loss.{name}']):g}" for name in WEIGHTS]
        figures = [f"{float(row[metric]):.{digits}f}" for metric, digits in SWEPT.items()]
        lines.append("| " + " | ".join([*weights, *figures]) + " |")
    return "\n".join(lines)


def replace_between(text: str, name: str, content: str, file: str = "README.md") -> str:
    """``text`` with what stands between the markers ``<!-- name -->`` and ``<!-- /name -->`` replaced."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    head, _, rest = text.partition(begin)
    _, found, tail = rest.partition(end)
    if not found:
        raise ValueError(f"{file} lacks the markers {begin} … {end}")
    return f"{head}{begin}\n{content}\n{end}{tail}"


def data_speed_table(figures: dict[str, Any]) -> str:
    """Crops a second from the cache, from shards and from files as Markdown."""
    lines = [
        "| workers | cached, crops/s | PNG decoded, crops/s | times faster | shards, crops/s | of PNG tiles |"
    ]
    lines.append("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in figures["crops_per_second"]:
        lines.append(
            f"| {row['workers']} | {row['cached']:.0f} | {row['decoded']:.1f} | {row['times_faster']:.0f} "
            f"| {row['shards']:.0f} | {row['shards_of_tiles']:.0f} |"
        )
    return "\n".join(lines)


def sharpbench_table(results: dict[str, Any]) -> str:
    """PSNR by track with the gain over the input, and the share harmed as Markdown."""
    tracks = list(results["models"]["input"]["tracks"])
    lines = ["| model | " + " | ".join([*tracks, "harmed"]) + " |"]
    lines.append("| --- |" + " ---: |" * (len(tracks) + 1))
    for name, entry in results["models"].items():
        cells = [name.replace("_", " ").replace("cnn", "CNN")]
        for track in tracks:
            figures = entry["tracks"].get(track)
            gain = (
                "" if figures is None or figures["gain_psnr"] is None else f" ({figures['gain_psnr']:+.2f})"
            )
            cells.append(
                "" if figures is None else decibels(figures["psnr"]) + ("" if name == "input" else gain)
            )
        share = harmed_share(entry["conditions"])
        cells.append("" if name == "input" or share is None else f"{share:.0%}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def shipped_table(results: dict[str, Any]) -> str:
    """PSNR of the shipped students beside the baselines that cheat, by condition, as Markdown."""
    models = results["models"]
    columns = [name for name in models["input"]["conditions"] if not name.startswith("sr/")]
    titles = [name.replace("gaussian/", "σ ").replace("/", " ") for name in columns]
    lines = ["| PSNR (dB) | " + " | ".join([*titles, "harmed"]) + " |"]
    lines.append("| --- |" + " ---: |" * (len(columns) + 1))
    for name in ("input", "unsharp-oracle", "wiener-oracle", "richardson-lucy", *SHIPPED):
        conditions = models[name]["conditions"]
        cells = [f"`{name}`" if name in SHIPPED else name]
        cells += [decibels(conditions[column]["psnr"]) if column in conditions else "" for column in columns]
        share = harmed_share(conditions)
        cells.append("" if name == "input" or share is None else f"{share:.1%}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def distillation_table(boards: dict[str, tuple[int, list[dict[str, str]]]]) -> str:
    """What each method of distillation gains over none on all images, scoreboard by scoreboard, as Markdown.

    Args:
        boards: name -> steps of a training and the rows of ``scoreboard.csv``.
    """
    lines = ["| setting | method | PSNR (dB) | gain (dB) | SSIM gain | of the teacher's gain | time |"]
    lines.append("| --- | --- |" + " ---: |" * 5)
    for name, (steps, rows) in boards.items():
        setting = f"{steps:,} steps{BOARDS[name]}"
        for row in rows:
            if row["set"] != "all" or row["method"] in ("input", "teacher"):
                continue
            cells = [setting, row["method"].replace("_", " "), f"{float(row['psnr']):.2f}"]
            cells += [_plus_minus(row, "psnr_gain", 3), _plus_minus(row, "ssim_gain", 4)]
            cells.append(f"{float(row['gain_kept']):.0%}" if row["gain_kept"] else "")
            cells.append(f"{float(row['times_scratch']):.1f}" if row["times_scratch"] else "")
            lines.append("| " + " | ".join(cells) + " |")
            setting = ""
    return "\n".join(lines)


def _plus_minus(row: dict[str, str], name: str, digits: int) -> str:
    if not row[name]:
        return ""
    mean, high = float(row[name]), float(row[f"{name}_high"])
    return f"{mean:+.{digits}f} ± {high - mean:.{digits}f}"


def estimation_table(rows: list[dict[str, Any]]) -> str:
    """Median error of the estimated sigma, in brackets the known method's, as Markdown."""
    sigmas = sorted({row["sigma"] for row in rows})
    lines = ["| | " + " | ".join([*(f"σ {sigma:g}" for sigma in sigmas), "in the 95 % interval"]) + " |"]
    lines.append("| --- |" + " ---: |" * (len(sigmas) + 1))
    for name, condition in dict.fromkeys((row["set"], row["condition"]) for row in rows):
        cells = [f"{name}, {condition.replace('jpeg', 'JPEG')}"]
        here = [row for row in rows if (row["set"], row["condition"]) == (name, condition)]
        for sigma in sigmas:
            ours, known = (
                next(row["median_error"] for row in here if (row["method"], row["sigma"]) == (method, sigma))
                for method in ("estimator", "zhuo-sim")
            )
            cells.append(f"{ours:.1%} ({known:.1%})" if sigma else f"{ours:.2f} ({known:.2f}) px")
        shares = [row["inside_95"] for row in here if row["inside_95"] is not None]
        cells.append(f"{sum(shares) / len(shares):.0%}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def second_report_table(found: dict[str, Any]) -> str:
    """What bicubic enlargement is worth by factor, then the nets at ÷4 that were measured, as Markdown."""
    lines = ["| | PSNR (dB) | SSIM | above 0.90 | SSIM on luma | above 0.90 | frames/s 640×480, 1920×1080 |"]
    lines.append("| --- |" + " ---: |" * 6)
    named = {
        "teacher": "CRAFT ×4, the teacher",
        "distilled": "student, distilled",
        "scratch": "student, from scratch",
    }
    rows = {f"bicubic, ÷{factor}": entry for factor, entry in found["bicubic"].items()}
    rows |= {f"{named[name]}, ÷4": entry for name, entry in found["nets"].items()}
    for title, entry in rows.items():
        cells = [title, f"{entry['psnr']:.2f}"]
        for metric in ("ssim", "ssim_y"):
            cells += [f"{entry[metric]:.4f}", f"{entry[f'{metric}_above']} of {found['images']}"]
        cells.append(", ".join(f"{1000 / ms:.2g}" for ms in entry.get("ms_by_size", {}).values()))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def aware_table(found: dict[str, Any]) -> str:
    """PSNR of blind students and of those that are told sigma, rightly and wrongly, by sigma, as Markdown."""
    sigmas = list(found["models"]["input"]["psnr"])
    lines = ["| PSNR (dB) at σ | parameters | " + " | ".join(sigmas) + " |"]
    lines.append("| --- |" + " ---: |" * (1 + len(sigmas)))
    named = {
        "input": "input",
        "blind": "`pixel_student`, blind",
        "blind_rep": "`pixel_student`, blind, `net.rep=true`",
        "told": "`aware_student`, told σ",
        "forgiving": "`aware_student`, told σ, `module.condition_noise=0.1`",
        "rep": "`aware_student`, told σ, `net.rep=true`",
    }
    for name, title in named.items():
        entry = found["models"][name]
        count = f"{entry['parameters']:,}" if "parameters" in entry else ""
        lines.append("| " + " | ".join([title, count, *_each(entry["psnr"], sigmas)]) + " |")
    short = {"told": "`aware_student`", "forgiving": "`module.condition_noise=0.1`", "rep": "`net.rep=true`"}
    for factor, rows in found["misjudged"].items():
        for name, row in rows.items():
            title = f"{short[name]}, told {float(factor):g} σ"
            lines.append("| " + " | ".join([title, "", *_each(row, sigmas)]) + " |")
    return "\n".join(lines)


def engine_speed_table(rows: list[dict[str, Any]]) -> str:
    """Milliseconds a frame under OpenVINO in its usual precision and in int8, by size, as Markdown."""
    usual = next(row["precision"] for row in rows if row["engine"] == "openvino")
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    kept = [row for row in rows if row["engine"] == "opencv" or row["precision"] in (usual, "int8")]
    header = [f"{size.replace('x', '×')}, ms" for size in sizes]
    header += [f"frames/s at {sizes[-1].replace('x', '×')}", "times faster than the CNN there"]
    lines = ["| | " + " | ".join(header) + " |", "| --- |" + " ---: |" * len(header)]
    for kind in dict.fromkeys(map(_kind, kept)):
        by_size = {row["size"]: row for row in kept if _kind(row) == kind}
        cells = [f"{ms:.1f}" if (ms := by_size[size]["ms"]) < 100 else f"{ms:,.0f}" for size in sizes]
        last = by_size[sizes[-1]]
        ratio = last["vs_enhanced_cnn"]
        cells += [f"{last['frames_per_second']:.3g}", "" if ratio is None else f"{ratio:.3g}"]
        model, pixels, precision = kind
        lines.append(f"| `{model}`, {pixels}, {precision} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _kind(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["model"], row["pixels"], row["precision"]


def _each(values: dict[str, float], keys: list[str]) -> list[str]:
    return [f"{values[key]:.2f}" for key in keys]


def committed_tables() -> dict[str, str]:
    """README's tables by the name of their markers, as the committed files give them."""
    real = HERE / "real_input"
    results = {name: json.loads((real / name / "metrics.json").read_text()) for name in SETS}
    with (real / "sweep.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    speed = json.loads((HERE / "data_speed" / "data_speed.json").read_text())
    bench = json.loads((HERE / "sharpbench" / "quick.json").read_text())
    whole = json.loads((HERE / "sharpbench" / "full.json").read_text())
    boards = {}
    for name in BOARDS:
        board = HERE / "distillation" / name
        with (board / "scoreboard.csv").open() as stream:
            steps = json.loads((board / "scoreboard.json").read_text())["steps"]
            boards[name] = steps, list(csv.DictReader(stream))
    report = json.loads((HERE / "second_report" / "results.json").read_text())
    blur = json.loads((HERE / "estimation" / "estimation.json").read_text())
    teachers = {name: json.loads((HERE / "teachers" / name / "metrics.json").read_text()) for name in SETS}
    aware = json.loads((HERE / "aware" / "results.json").read_text())
    shipped = json.loads((HERE / "shipped" / "sharpbench.json").read_text())
    engines = json.loads((HERE / "speed" / "speed.json").read_text())
    return {
        "speed": engine_speed_table(engines["rows"]),
        "shipped": shipped_table(shipped),
        "estimation": estimation_table(blur["rows"]),
        "teachers": table(teachers),
        "aware": aware_table(aware),
        "second-report": second_report_table(report),
        "real-input": table(results),
        "sweep": sweep_table(rows),
        "sharpbench": sharpbench_table(bench),
        "sharpbench-full": sharpbench_table(whole),
        "data-speed": data_speed_table(speed),
        "distillation": distillation_table(boards),
    }


def scaling_table(rows: list[dict[str, str]]) -> str:
    """Milliseconds of processors, by what was done, as Markdown."""

    def milliseconds(what: str) -> str:
        found = [float(f"{1000 * float(row['per']):.2g}") for row in rows if row["what"] == what]
        return ", ".join(f"{value:g}" for value in found)

    lines = [f"| {label} | {milliseconds(what)} |" for what, label in SCALING.items()]
    return "\n".join(["| | milliseconds of processors |", "| --- | --- |", *lines])


def hundred_million_table(rows: list[dict[str, str]]) -> str:
    """What 100 million pictures by `fast` would take, by their size, as Markdown."""
    found = [row for row in rows if row["what"] == "picture, fast"]
    sizes = {"640×480": found[-2], "1280×960": found[-1]}
    seconds = {size: float(row["per"]) for size, row in sizes.items()}
    each = seconds["1280×960"] / float(sizes["1280×960"]["x"])
    labels = {size: f"{size}, {value:.2g}" for size, value in seconds.items()}
    labels["12 MP"] = f"12 megapixels, {12 * each:.2g} ({each:.2f} a megapixel: not measured at this size)"
    seconds["12 MP"] = 12 * each
    lines = ["| `fast`, seconds of a core for each | core-hours | ten machines of 64 cores, hours |"]
    lines.append("| --- | ---: | ---: |")
    for size, label in labels.items():
        hours = seconds[size] * 1e8 / 3600
        lines.append(f"| {label} | {float(f'{hours:.2g}'):,.0f} | {float(f'{hours / 640:.2g}'):,.0f} |")
    return "\n".join(lines)


def cluster_table(rows: list[dict[str, str]]) -> str:
    """Pictures a second by way, as Markdown."""
    lines = ["| | pictures a second | seconds to the first |", "| --- | ---: | ---: |"]
    lines += [f"| {row['way']} | {float(row['pictures_per_s']):.1f} | {row['start_s']} |" for row in rows]
    return "\n".join(lines)


def shards_table(rows: list[dict[str, Any]]) -> str:
    """What a crop costs, by what it is cut from, as Markdown."""
    lines = ["| images from | ms per crop | MB per photograph |", "| --- | ---: | ---: |"]
    lines += [f"| {row['way']} | {row['ms_per_crop']:.2f} | {row['mb_per_photograph']} |" for row in rows]
    return "\n".join(lines)


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def docs_tables() -> dict[str, dict[str, str]]:
    """The tables of the pages in docs/, by page and by the name of their markers."""
    scaling = _rows(HERE / "scaling" / "scaling.csv")
    return {
        "scaling.md": {
            "scaling": scaling_table(scaling),
            "hundred-million": hundred_million_table(scaling),
            "cluster": cluster_table(_rows(HERE / "scaling" / "cluster.csv")),
        },
        "data.md": {"shards": shards_table(json.loads((HERE / "shards" / "speed.json").read_text()))},
    }


def main() -> None:
    """Write the tables into README.md and docs/."""
    pages = {README: committed_tables()}
    pages |= {HERE.parent / "docs" / page: tables for page, tables in docs_tables().items()}
    for page, tables in pages.items():
        text = page.read_text(encoding="utf-8")
        for name, content in tables.items():
            text = replace_between(text, name, content, page.name)
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
