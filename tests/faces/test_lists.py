from __future__ import annotations

import codecs
from collections import Counter
from pathlib import Path

import pytest

from facefocus.core.errors import UserError
from facefocus.faces.faceset import PairList
from facefocus.faces.lists import parse_list, read_list
from facefocus.faces.sources import SOURCES

#: Two folds of two mated and two non-mated pairs.
OFFICIAL = """2\t2
Al_Bo\t1\t2
Cy\t1\t3
Al_Bo\t2\tCy\t1
Al_Bo\t1\tDi\t12
Di\t1\t2
Di\t1\t3
Di\t1\tCy\t2
Di\t4\tCy\t2
"""
BODY = OFFICIAL.partition("\n")[2]

LFW, CALFW, CPLFW = (SOURCES[name].image_name for name in ("lfw", "calfw", "cplfw"))


def parsed(text: str, naming: object = LFW) -> PairList:
    return parse_list(text.encode(), "in/pairs.txt", naming)  # type: ignore[arg-type]


def rewritten(form: str) -> str:
    """The pairs of `BODY` by the paths of their images."""
    lines = []
    for line in BODY.splitlines():
        fields = line.split("\t")
        first, second = (fields[0], fields[1]), (fields[-2], fields[-1])
        if len(fields) == 3:
            second = (fields[0], fields[2])
        a, b = (f"{name}/{name}_{int(number):04d}.jpg" for name, number in (first, second))
        lines.append(form.format(a=a, b=b, flag=int(len(fields) == 3)))
    return "\n".join(lines)


FORMS = {
    "official": OFFICIAL.encode(),
    "byte-order mark": codecs.BOM_UTF8 + OFFICIAL.encode(),
    "UTF-16 of Windows": codecs.BOM_UTF16_LE + OFFICIAL.encode("utf-16-le"),
    "line ends of Windows": OFFICIAL.replace("\n", "\r\n").encode(),
    "empty lines": ("\n" + OFFICIAL.replace("\nDi", "\n \n\nDi") + "\n\n").encode(),
    "spaces": OFFICIAL.replace("\t", " ").encode(),
    "no heading": BODY.encode(),
    "names with spaces": OFFICIAL.replace("Al_Bo", "Al Bo").encode(),
    "names with spaces, no tabs": OFFICIAL.replace("Al_Bo", "Al Bo").replace("\t", " ").encode(),
    "Kaggle": ("name,imagenum1,imagenum2,\n" + BODY.replace("\t", ",")).encode(),
    "trailing commas": (BODY.replace("\t", ",").replace("\n", ",,\n")).encode(),
    "semicolons": ("Name;a;b\n" + BODY.replace("\t", ";")).encode(),
    "path path label": rewritten("{a} {b} {flag}").encode(),
    "label path path": rewritten("{flag} {a} {b}").encode(),
    "paths of Windows": rewritten("{flag} C:/x/{a} C:/x/{b}").replace("/", "\\").encode(),
    "paths with spaces": rewritten("my lfw/{a} my lfw/{b} {flag}").encode(),
    "True and False": rewritten("{a},{b},{flag}").replace(",1", ",True").encode(),
    "-1 for non-mated": rewritten("{a}\t{b}\t{flag}").replace("\t0", "\t-1").encode(),
    "quoted": ("a,b,same\n" + rewritten('"{a}","{b}",{flag}')).encode(),
    "PNG and further faces": rewritten("{a} {b} {flag}").replace(".jpg", "_0.png").encode(),
    "two lines": rewritten("{a} {flag}\n{b} {flag}").encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_list(form: str) -> None:
    listed = parse_list(FORMS[form], "pairs.txt", LFW)
    assert listed.first[:4] == ("Al_Bo_0001", "Cy_0001", "Al_Bo_0002", "Al_Bo_0001")
    assert listed.first[4:] == ("Di_0001", "Di_0001", "Di_0001", "Di_0004")
    assert listed.second[:4] == ("Al_Bo_0002", "Cy_0003", "Cy_0001", "Di_0012")
    assert listed.second[4:] == ("Di_0002", "Di_0003", "Cy_0002", "Cy_0002")
    assert listed.mated == (True, True, False, False) * 2
    assert listed.fold == (0,) * 4 + (1,) * 4
    assert (listed.people["Di_0012"], listed.people["Al_Bo_0002"]) == ("Di", "Al_Bo")
    assert listed.left_out == ()


def test_one_number_is_the_heading_of_the_lists_of_view_1() -> None:
    mated = "".join(f"P{i} 1 2\n" for i in range(3))
    other = "".join(f"P{i} 1 P{i + 1} 1\n" for i in range(3))
    listed = parsed(f"3\n{mated}{other}")
    assert listed.mated == (True,) * 3 + (False,) * 3
    # No folds are given: either kind is dealt out to as many as it has pairs.
    assert listed.fold == (0, 1, 2) * 2


def test_folds_are_dealt_in_order_where_the_list_has_none() -> None:
    lines = [f"1 P/P_{i:04d}.jpg P/P_{i + 50:04d}.jpg" for i in range(40)]
    lines += [f"0 P/P_{i:04d}.jpg Q/Q_{i:04d}.jpg" for i in range(20)]
    listed = parsed("\n".join(lines))
    assert listed.fold == tuple(i // 4 for i in range(40)) + tuple(i // 2 for i in range(20))


def test_calfws_numbers_are_the_folds_of_mated_pairs() -> None:
    folds = [10, 1, 1, 2] * 5
    lines = [f"A_{10 * i + j:04d}.jpg {fold}" for i, fold in enumerate(folds) for j in (1, 2)]
    lines += [f"{who}_{i:04d}.jpg 0" for i in range(20) for who in "AB"]
    listed = parsed("name fold\n" + "\n".join(lines), CALFW)
    assert listed.fold[:20] == tuple(fold - 1 for fold in folds)
    assert listed.fold[20:] == tuple(i // 2 for i in range(20))
    assert Counter(listed.mated) == {True: 20, False: 20}
    assert (listed.first[20], listed.second[20]) == ("A_0000", "B_0000")


def test_cplfws_odd_names_are_those_of_its_images() -> None:
    listed = parsed("A_B_3jpg.jpg 1\nA_B-2.jpg 1\nA_B_1.jpg 0\nC_2.jip.jpg 0\n", CPLFW)
    assert (listed.first, listed.second) == (("A_B_3", "A_B_1"), ("A_B_2", "C_2"))
    assert parsed("A_B 3 2\nA_B 1 C 2\n", CPLFW).second == ("A_B_2", "C_2")


def test_pairs_that_contradict_their_names_are_left_out_and_named() -> None:
    wrong = BODY.replace("Cy\t1\t3", "Cy\t1\t1").replace("Di\t1\tCy\t2", "Di\t1\tDi\t2")
    listed = parsed("2\t2\n" + wrong)
    assert listed.first == (
        "Al_Bo_0001",
        "Al_Bo_0002",
        "Al_Bo_0001",
        "Di_0001",
        "Di_0001",
        "Di_0004",
    )
    assert listed.fold == (0, 0, 0, 1, 1, 1)
    assert listed.left_out == (
        "1 of the 8 pairs of pairs.txt left out: an image against itself"
        " (line 3: Cy_0001 and Cy_0001).",
        "1 of the 8 pairs of pairs.txt left out: a non-mated pair of one person"
        " (line 8: Di_0001 and Di_0002).",
    )
    mixed = parsed(rewritten("{flag} {a} {b}").replace("0 Al_Bo", "1 Al_Bo", 1))
    assert "a mated pair of two people (line 3: Al_Bo_0002 and Cy_0001)" in mixed.left_out[0]
    assert len(mixed.first) == 7


def test_a_pair_counts_once_in_either_order() -> None:
    again = BODY + "Al_Bo\t2\t1\n" * 4 + "Cy\t1\tAl_Bo\t2\n"
    listed = parsed(again)
    assert len(listed.first) == 8
    assert listed.left_out == (
        "5 of the 13 pairs of pairs.txt left out: a pair that came before (line 9: Al_Bo_0002 and"
        " Al_Bo_0001; line 10: Al_Bo_0002 and Al_Bo_0001; line 11: Al_Bo_0002 and Al_Bo_0001;"
        " and 2 more).",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"must have pairs of the form 'Name 1 4' or 'Name 1 Other 2', .* Got none"),
        ("name,imagenum1\n", r"must have pairs of the form .* Got none"),
        ("500\n", r"must have pairs of the form .* Got none"),
        ("10 300\n" + BODY, r"must have 6000 pairs after its first line. Got 8. Without that line"),
        ("a.jpg 1 " * 20_000, r"Line 1 .* must be of the form .*Got 'a.jpg 1 a.jpg .*\.\.\.'"),
        ("hello 3 you\nwhat is this\n", r"Line 1 .* of the form 'Name 1 4' .* Got 'hello 3 you'"),
        (OFFICIAL.replace("Cy\t1\t3", "Cy\t1"), r"Line 3 .* form 'Name 1 4' .* Got 'Cy 1'"),
        (OFFICIAL.replace("Cy\t1\t3", "Cy\t1\tx"), r"Line 3 .* form 'Name 1 4' .* Got 'Cy 1 x'"),
        (BODY + "1 A_1.jpg A_2.jpg\n", r"Line 9 .* form 'Name 1 4' or 'Name 1 Other 2'\. Got '1 A"),
        ("1 a.jpg b.jpg\n", r"Line 1 .* must name images of the set. Got 'a.jpg'"),
        ("A_0001.jpg 1\n", r"must have two lines for each pair. Got 1 lines"),
        ("x y\n\nA_0001.jpg 1\nA_0002.jpg 0\n", r"Lines 3 and 4 .* same number, .* Got 1 and 0"),
        ("A_0001.jpg 11\nA_0002.jpg 11\n", r"Line 1 .* number from 0 to 10. Got 'A_0001.jpg 11'"),
        ("A 1 1\n", r"Most pairs .*txt' contradict the names .* \(line 1: A_0001 and A_0001\)"),
        (
            rewritten("{a} {b} {flag}").replace(".jpg 0", ".jpg 2").replace("jpg 1", "jpg 0"),
            r"Line 3 .* form 'path path 1' or '1 path path'",
        ),
        (
            "".join(f"0 A/A_{i:04d}.jpg A/A_0000.jpg\n" for i in range(1, 4))
            + "1 B/B_0001.jpg B/B_0002.jpg",
            r"contradict .* 3 of the 4 pairs .* a non-mated pair of one person .* other images",
        ),
    ],
)
def test_lists_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parsed(text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'pairs' file .*none.txt' cannot be read: No such file"):
        read_list(tmp_path / "none.txt", LFW)
    (tmp_path / "latin").write_bytes("José 1 2\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"'pairs' file .*latin' cannot be read: .* as UTF-8\."):
        read_list(tmp_path / "latin", LFW)
