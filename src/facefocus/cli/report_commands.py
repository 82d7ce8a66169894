"""``facefocus report``: what runs found, as a page, tables or a document."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facefocus.cli.console import print_study, print_summary
from facefocus.cli.options import REPORTS, Runs, one_of
from facefocus.cli.printing import show
from facefocus.core.errors import UserError

if TYPE_CHECKING:
    import polars as pl

commands = typer.Typer()

#: What ``--what`` can be, with the formats of each, the default one first.
FORMATS = {
    "page": ("html", "text", "markdown", "latex", "csv", "svg", "png"),
    "tables": ("text", "markdown", "latex", "csv", "html"),
    "leaderboard": ("text", "markdown", "latex", "csv", "html"),
    "methods": ("markdown", "html", "latex", "text"),
    "questions": ("markdown",),
    "truth": ("markdown",),
    "information": ("markdown", "html", "latex", "text"),
    "information-questions": ("markdown", "html", "latex", "text"),
}


What = Annotated[
    str,
    one_of(
        "--what",
        FORMATS,
        help="page: all of a run or study. tables: the paper's, with your numbers."
        " leaderboard: methods in order. methods: all figures of a run's methods."
        " questions: the paper's, answered."
        " truth: which methods find the planted part, of synthetic faces."
        " information: what hiding shows with the gap filled in, and whose map."
        " information-questions: the paper's, with and without the gap filled in.",
    ),
]
Form = Annotated[
    str | None,
    one_of(
        "--format",
        dict.fromkeys(name for names in FORMATS.values() for name in names),
        help="html, markdown, latex, csv or text; svg or png: figures for a manuscript. The"
        " default depends on --what.",
    ),
]
PaperTable = Annotated[
    str | None, typer.Option("--table", help="One of the paper's tables: 2 to 15.")
]
Written = Annotated[
    Path | None,
    typer.Option("--out", help="The file to write, in place of printing; the folder of a page."),
]
WithFaces = Annotated[bool, typer.Option("--with-faces", help="Show photographs on the page.")]
Persons = Annotated[
    list[str] | None,
    typer.Option("--person", help="A person to show on the page with all maps; may be repeated."),
]
Groups = Annotated[
    Path | None,
    typer.Option("--groups", help="CSV file of groups on the page: identity,GROUP or image,GROUP."),
]
Stratum = Annotated[
    str | None,
    typer.Option("--stratum", help="Of one group of people alone, as the page names it."),
]
OnDegenerate = Annotated[
    str,
    typer.Option(help="Rows of tables: none (exactly k pixels), or inclusive (as the paper)."),
]


@commands.command(rich_help_panel=REPORTS)
def report(
    runs: Runs,
    what: What = "page",
    form: Form = None,
    table: PaperTable = None,
    out: Written = None,
    with_faces: WithFaces = False,
    person: Persons = None,
    groups: Groups = None,
    stratum: Stratum = None,
    on_degenerate: OnDegenerate = "none",
) -> None:
    """Report what runs found.

    Takes run folders, and files of 'facefocus submit'. Writes their page to RUN/report, that of
    several runs or of a file to 'report' or --out, and prints their tables; or prints tables and
    documents, or writes them to a file.
    """
    what = "tables" if table and what == "page" else what
    form = form or FORMATS[what][0]
    page = (what, form) == ("page", "html")
    _refuse_unused(
        what,
        {
            f"--format {form}": form not in FORMATS[what],
            "--table": table is not None and what != "tables",
            "--on-degenerate": on_degenerate != "none" and what != "tables",
            "--with-faces": with_faces and not page,
            "--person": person is not None and not page,
            "--groups": groups is not None and not page and stratum is None,
            "--stratum": stratum is not None and what not in ("page", "tables", "leaderboard"),
            f"--stratum with --format {form}": stratum is not None and form in ("svg", "png"),
        },
    )
    if what in ("truth", "methods") and len(runs) > 1:
        raise UserError(f"The report '--what {what}' is of one run. Got {len(runs)}.")
    if any(run.is_file() for run in runs):
        if with_faces:
            raise UserError("The '--with-faces' is for run folders. Got a submission: no faces.")
        from facefocus.submissions.submission import run_folders_of

        with run_folders_of(runs) as folders:
            report(
                folders, what, form, table, out or (Path("report") if page else None), with_faces,
                person, groups, stratum, on_degenerate,
            )  # fmt: skip
        return
    if page:
        more = {} if stratum is None else {"stratum": stratum}
        _page(runs, out, with_faces=with_faces, persons=person or (), groups=groups, **more)
    elif form in ("svg", "png"):
        from facefocus.paper.manuscript_figures import write_figures

        for path in write_figures(runs, out or Path("figures"), form):
            show(f"figure {path}")
    elif what == "truth":
        from facefocus.planted.truth_report import write_note

        show(f"truth {write_note(runs[0], out or Path('results-truth.md'))}")
    else:
        people = None if stratum is None else (stratum, groups)
        _show_or_write(_text(runs, what, form, table or "all", on_degenerate, people), what, out)


def _show_or_write(text: str, what: str, out: Path | None) -> None:
    if out is None:
        show(text, end="")
    else:
        from facefocus.core.files import write_atomically

        write_atomically(out, lambda file: file.write(text.encode()))
        show(f"{what} {out}")


def _refuse_unused(what: str, unused: dict[str, bool]) -> None:
    """Refuse options that a report has no use for: those that are true of `unused`."""
    if any(unused.values()):
        given = ", ".join(name for name, wrong in unused.items() if wrong)
        raise UserError(
            f"The report '--what {what}' takes no {given}. Its formats: {', '.join(FORMATS[what])}."
        )


def _page(runs: list[Path], out: Path | None, **asked: Any) -> None:
    """Write the page of runs or of a study, and print their tables or leaderboards.

    Args:
        asked: What `write_reports` and `write_study_report` take by the same names.
    """
    from facefocus.paper.study_page import is_study, write_study_report
    from facefocus.report.page import write_reports

    if len(runs) == 1 and is_study(runs[0]):
        if "stratum" in asked:
            raise UserError("'--stratum' is for runs. Got a study: name its runs.")
        page = write_study_report(runs[0], out, **asked)
    else:
        folder = out or (Path("report") if len(runs) > 1 else runs[0] / "report")
        page = write_reports(runs, folder, **asked)
    for run in runs:
        (print_study if is_study(run) else print_summary)(run)
    show(f"page {page}")


def _text(
    runs: list[Path],
    what: str,
    form: str,
    table: str,
    policy: str,
    people: tuple[str, Path | None] | None,
) -> str:
    from facefocus.analysis.results import read_runs

    if what == "questions":
        from facefocus.paper.questions import results_document

        return results_document(runs)
    if what == "methods" or what.startswith("information"):
        return _document(runs, what, form)
    if people is None:
        results = read_runs(runs)
    else:
        from facefocus.report.page import results_of_group

        results = results_of_group(runs, *people)
    if what == "page":
        return _summary(results, form)
    from facefocus.paper.paper_formats import render

    return render(results, "leaderboard" if what == "leaderboard" else table, form, policy=policy)


def _document(runs: list[Path], what: str, form: str) -> str:
    """A run's methods; what hiding shows by either reading; or the paper's questions by both."""
    from facefocus.paper import information, information_questions
    from facefocus.paper.methods_document import methods_document
    from facefocus.report.html_renderer import html_document
    from facefocus.report.latex_renderer import latex_document
    from facefocus.report.markdown_renderer import markdown_document
    from facefocus.report.text_renderer import text_document

    if what == "methods":
        blocks, title = methods_document(runs[0]), f"{runs[0].name}: methods"
    elif what == "information":
        blocks, title = information.information_document(runs), information.TITLE
    else:
        blocks, title = information_questions.questions_document(runs), information_questions.TITLE
    if form == "html":
        return html_document(blocks, title)
    render = {"text": text_document, "markdown": markdown_document, "latex": latex_document}[form]
    return render(blocks)


def _summary(results: pl.DataFrame, form: str) -> str:
    """The summary table of a page by itself; of CSV, all its rows and columns."""
    from facefocus.analysis.summary import summarize
    from facefocus.report.latex_renderer import latex_document
    from facefocus.report.markdown_renderer import markdown_document
    from facefocus.report.summary_blocks import summary_blocks
    from facefocus.report.summary_table import to_csv
    from facefocus.report.text_renderer import text_document

    summary = summarize(results)
    if form == "csv":
        return to_csv(summary)
    render = {"text": text_document, "markdown": markdown_document, "latex": latex_document}[form]
    return render(summary_blocks(summary))
