from __future__ import annotations

import math
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch

from facefocus.core.errors import UserError
from facefocus.models.recognizer import Recognizer
from facefocus.occlusion.fills import fill_rng, hider
from facefocus.saliency import perturbation, rise
from facefocus.saliency.identity import ordered_pairs
from facefocus.saliency.methods import METHODS, PerturbationMethod
from facefocus.saliency.perturbation import (
    GROUP,
    MaskSet,
    apply_masks,
    mask_set,
    masked_embeddings,
    pair_maps,
    perturbation_identity_map,
    similarities,
)
from tests.small import SIDE, tiny_recognizer

FRAME = (SIDE, SIDE)


def method_of(name: str) -> PerturbationMethod:
    method = METHODS[name]
    assert isinstance(method, PerturbationMethod)
    return method


def masks_of(
    name: str,
    count: int,
    *,
    image: str = "one",
    frame: tuple[int, int] = FRAME,
    seed: int = 0,
    **options: str,
) -> MaskSet:
    options["masks"] = str(count)
    return mask_set(method_of(name), frame, image, seed=seed, options=options)


def masks_of_each(name: str, count: int, images: int, **options: str) -> list[MaskSet]:
    given = {"masks": str(count), **options}
    return [
        mask_set(method_of(name), FRAME, f"p_{image}", seed=0, options=given)
        for image in range(images)
    ]


def whole(masks: MaskSet) -> np.ndarray:
    return np.concatenate(list(masks))


def random_frames(count: int, frame: tuple[int, int] = FRAME) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, *frame, 3), dtype=np.uint8)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    wide = a.astype(np.float64), b.astype(np.float64)
    return float(wide[0] @ wide[1] / np.linalg.norm(wide[0]) / np.linalg.norm(wide[1]))


def embedded(
    recognizer: Recognizer, frames: np.ndarray, masks: Sequence[MaskSet]
) -> tuple[list[np.ndarray], np.ndarray]:
    masked = [
        masked_embeddings(recognizer, frame, own) for frame, own in zip(frames, masks, strict=True)
    ]
    return masked, recognizer.embed(frames)


class Wide:
    """A recognizer with few degrees of freedom: mean colors of the frame's quarters."""

    name = "quarters"
    fingerprint = "quarters"

    def embed(self, frames: np.ndarray) -> np.ndarray:
        n, h, w, _ = frames.shape
        parts = frames.reshape(n, 2, h // 2, 2, w // 2, 3).mean(axis=(2, 4), dtype=np.float64)
        return np.asarray(parts.reshape(n, 12), np.float32)


# Masks --------------------------------------------------------------------------------------------


def drawn_by_hand(grid: np.ndarray, shift: tuple[int, int], side: int) -> np.ndarray:
    """One RISE mask with torch's bilinear upsampling."""
    cells = 9 * math.ceil(side / 8)
    big = torch.nn.functional.interpolate(
        torch.from_numpy(grid)[None, None], size=(cells, cells), mode="bilinear"
    )
    rows, columns = (slice(start, start + side) for start in shift)
    cut: np.ndarray = big[0, 0, rows, columns].numpy()
    return cut


@pytest.mark.parametrize("side", [32, 112, 50])
def test_rise_masks_are_shifted_bilinear_upsamplings_of_a_bernoulli_grid(side: int) -> None:
    masks = rise.rise_masks(np.random.default_rng(1), 20, (side, side), {})
    again, cell = np.random.default_rng(1), math.ceil(side / 8)
    grids = (again.random((20, 8, 8)) < 0.5).astype(np.float64)
    down, right = again.integers(0, cell, 20), again.integers(0, cell, 20)
    for mask, grid, *shift in zip(masks, grids, down, right, strict=True):
        np.testing.assert_allclose(mask, drawn_by_hand(grid, (shift[0], shift[1]), side), atol=1e-5)


def test_rise_masks_keep_half_of_every_pixel() -> None:
    values = whole(masks_of("s-rise", 4000)).astype(np.float64)
    assert values.min() == 0.0 and values.max() == 1.0
    assert values.mean() == pytest.approx(0.5, abs=0.005)
    # A pixel's variance is at most 1/4: 4.5 standard errors for the largest of 1024 pixels.
    np.testing.assert_allclose(values.mean(axis=0), 0.5, atol=4.5 * 0.5 / math.sqrt(4000))


def test_rise_shifts_are_uniform_within_a_cell() -> None:
    shifts = rise._shifts(np.random.default_rng(0), 14_000, 112)
    seen = Counter(shifts.tolist())
    assert sorted(seen) == list(range(14))
    assert scipy.stats.chisquare(list(seen.values())).pvalue > 1e-3


def test_masks_are_multiples_of_the_step() -> None:
    for masks in (masks_of("s-rise", 64), masks_of("corr-rise", 64, fill="uniform")):
        steps = whole(masks) / rise.STEP
        np.testing.assert_array_equal(steps, np.rint(steps))


@pytest.mark.parametrize(("frame", "patch"), [((112, 112), (30, 30)), ((112, 56), (30, 15))])
def test_patches_lie_fully_inside(frame: tuple[int, int], patch: tuple[int, int]) -> None:
    """10 patches at these places, found again from the same draws, and nothing else is hidden."""
    masks = rise.patch_masks(np.random.default_rng(2), 50, frame, {"fill": "black"})
    again = np.random.default_rng(2)
    tops = again.integers(0, frame[0] - patch[0], (50, 10), endpoint=True)
    lefts = again.integers(0, frame[1] - patch[1], (50, 10), endpoint=True)
    for mask, mask_tops, mask_lefts in zip(masks, tops, lefts, strict=True):
        expected = np.ones(frame)
        for top, left in zip(mask_tops, mask_lefts, strict=True):
            inside = expected[top : top + patch[0], left : left + patch[1]]
            assert inside.shape == patch
            inside[:] = 0
        np.testing.assert_array_equal(mask, expected)
    assert tops.min() == 0 and tops.max() == frame[0] - patch[0]


def test_one_patch_is_30_of_112_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rise, "PATCHES", 1)
    masks = whole(masks_of("corr-rise", 2000, frame=(112, 112)))
    assert set((masks == 0).sum(axis=(1, 2)).tolist()) == {900}
    hidden = (masks == 0).any(axis=2).argmax(axis=1)  # first hidden row: uniform over 0..82
    assert scipy.stats.chisquare(np.bincount(hidden, minlength=83)).pvalue > 1e-3


def test_uniform_fill_gives_each_hidden_pixel_its_own_value() -> None:
    masks = rise.patch_masks(np.random.default_rng(2), 64, (112, 112), {"fill": "uniform"})
    black = rise.patch_masks(np.random.default_rng(2), 64, (112, 112), {"fill": "black"})
    assert (masks[black == 1] == 1).all()
    inside = masks[black == 0].astype(np.float64)
    assert inside.min() >= 0 and inside.max() < 1
    assert scipy.stats.kstest(inside[::40], "uniform").pvalue > 1e-3
    assert len(np.unique(inside[:1000])) > 950


def test_a_group_made_alone_is_the_group_of_the_set() -> None:
    masks = masks_of("s-rise", 150)
    everything = whole(masks)
    assert masks.groups == 3 and everything.shape == (150, *FRAME)
    np.testing.assert_array_equal(masks.group(2), everything[2 * GROUP :])
    np.testing.assert_array_equal(whole(masks_of("s-rise", 70)), everything[:70])
    with pytest.raises(IndexError, match="No group 3 of 3"):
        masks.group(3)


def test_masks_depend_on_image_seed_method_fill_and_frame_but_not_on_rank() -> None:
    base = masks_of("corr-rise", 10)
    ranked = masks_of("corr-rise", 10, rank="true")
    np.testing.assert_array_equal(base.group(0), ranked.group(0))
    assert base.determined_by == ranked.determined_by
    others = [
        masks_of("corr-rise", 10, seed=1),
        masks_of("corr-rise", 10, fill="uniform"),
        masks_of("corr-rise", 10, image="another"),
        masks_of("corr-rise", 11),
        masks_of("s-rise", 10),
    ]
    for other in others:
        assert other.determined_by != base.determined_by
    plain = masks_of("s-rise", 10, weights="plain")
    assert plain.determined_by == others[-1].determined_by
    assert (others[0].group(0) != base.group(0)).any()
    assert (others[2].group(0) != base.group(0)).any()
    assert ((others[1].group(0) < 1) != (base.group(0) < 1)).any()  # other places, too
    # Groups have generators of their own.
    assert (masks_of("s-rise", 128).group(0) != masks_of("s-rise", 128).group(1)).any()


def test_the_paper_s_settings_are_the_defaults() -> None:
    options = {name: method_of(name).resolve_options({}) for name in METHODS_}
    # But for the plain sum, which is mostly noise.
    assert options["s-rise"] == {"masks": "1000", "weights": "centered"}
    assert options["corr-rise"] == {"masks": "500", "fill": "black", "rank": "false"}


METHODS_ = ("s-rise", "corr-rise")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("s-rise", {"masks": "1"}, "The 'masks' of the method 's-rise' must be"),
        ("s-rise", {"masks": "many"}, "Got 'many'"),
        ("corr-rise", {"masks": "-5"}, "must be a whole number"),
        ("s-rise", {"fill": "black"}, "The method 's-rise' has no option 'fill'"),
        ("corr-rise", {"fill": "blck"}, "Did you mean 'black'"),
        ("corr-rise", {"rank": "yes"}, "must be one of false, true"),
    ],
)
def test_wrong_options_are_refused(name: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        mask_set(method_of(name), FRAME, "one", seed=0, options=options)


# Masked images ------------------------------------------------------------------------------------


def test_masking_multiplies_every_channel_and_rounds_to_the_nearest() -> None:
    frame = np.array([[[200, 101, 3], [255, 1, 0]]], np.uint8)
    masks = np.array([[[0.5, 1.0]], [[0.0, 0.25]]], np.float32)
    expected = [
        [[[100, 50, 2], [255, 1, 0]]],  # 50.5 and 1.5: halves go to the even neighbour
        [[[0, 0, 0], [64, 0, 0]]],
    ]
    np.testing.assert_array_equal(apply_masks(frame, masks), np.array(expected, np.uint8))


def test_masked_embeddings_are_those_of_the_images_masked_one_by_one() -> None:
    recognizer, frame = tiny_recognizer(), random_frames(1)[0]
    masks = masks_of("s-rise", 130)
    seen: list[tuple[str, int, int]] = []
    got = masked_embeddings(recognizer, frame, masks, progress=lambda *step: seen.append(step))
    # One batch after the other, whatever groups masks are drawn in: only the last is filled up.
    assert (recognizer.passes, recognizer.padded) == (144, 14)
    for index, mask in enumerate(whole(masks)):
        by_hand = np.rint(frame * mask[:, :, None].astype(np.float64)).astype(np.uint8)
        np.testing.assert_array_equal(got[index], recognizer.embed(by_hand[None])[0])
    assert seen == [("masks", 130, 130)]


@pytest.mark.parametrize("fill", ["inpaint", "linear", "blur"])
def test_a_fill_hides_what_a_mask_keeps_less_than_half_of(fill: str) -> None:
    recognizer, frames = tiny_recognizer(), random_frames(2)
    plain = masks_of("s-rise", 70)
    masks = replace(plain, fill=fill)
    smooth, binary = whole(plain).astype(np.float64), whole(masks)
    np.testing.assert_array_equal(binary, smooth >= 0.5)
    assert binary.dtype == np.float32 and 0.4 < binary.mean() < 0.6
    # The masks are drawn as without a fill, and their key is what it was.
    assert masks.determined_by == plain.determined_by
    hide = hider(fill, frames[:1], [fill_rng(0, "one")])
    got = masked_embeddings(recognizer, frames[0], masks, hide=hide)
    reference, cosines = recognizer.embed(frames[1:]), []
    for index, mask in enumerate(smooth):
        again = hider(fill, frames[:1], [fill_rng(0, "one")])
        embedding = recognizer.embed(again(mask < 0.5))[0]
        np.testing.assert_array_equal(got[index], embedding)
        cosines.append(cosine(embedding, reference[0]))
    centered = np.array(cosines) - np.mean(cosines)
    wanted = np.tensordot(centered, (smooth >= 0.5).astype(float), axes=1) / (70 * 0.5)
    np.testing.assert_allclose(pair_maps(masks, got, reference)[0], wanted, atol=1e-7)
    for asked, wrong in ((masks, None), (plain, hide)):
        with pytest.raises(ValueError, match="The fill of the masks is"):
            masked_embeddings(recognizer, frames[0], asked, hide=wrong)


def test_a_frame_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="made for"):
        masked_embeddings(Wide(), random_frames(1, (16, 16))[0], masks_of("s-rise", 4))


def test_similarities_are_cosines_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    masked = rng.normal(size=(50, 8)).astype(np.float32)
    references = rng.normal(size=(3, 8)).astype(np.float32)
    scores = similarities(masked, references)
    expected = [[cosine(embedding, reference) for embedding in masked] for reference in references]
    np.testing.assert_allclose(scores, expected, atol=1e-14)
    monkeypatch.setattr(perturbation, "ROWS", 7)
    np.testing.assert_array_equal(similarities(masked, references), scores)


# Maps against plain loops over the definitions ----------------------------------------------------


@pytest.mark.parametrize("weights", ["centered", "plain"])
def test_s_rise_is_the_loop_over_its_definition(weights: str) -> None:
    recognizer, frames = tiny_recognizer(), random_frames(2)
    masks = masks_of("s-rise", 100, weights=weights)
    reference, cosines = recognizer.embed(frames[1:]), []
    for mask in whole(masks).astype(np.float64):
        image = np.rint(frames[0] * mask[:, :, None]).astype(np.uint8)
        cosines.append(cosine(recognizer.embed(image[None])[0], reference[0]))
    mean = np.mean(cosines) if weights == "centered" else 0.0
    total = np.zeros(FRAME)
    for similarity, mask in zip(cosines, whole(masks).astype(np.float64), strict=True):
        total += (similarity - mean) * mask
    (got,) = pair_maps(masks, masked_embeddings(recognizer, frames[0], masks), reference)
    np.testing.assert_allclose(got, total / (100 * 0.5), atol=1e-7)


@pytest.mark.parametrize("rank", ["false", "true"])
@pytest.mark.parametrize("fill", ["black", "uniform"])
def test_corr_rise_is_the_correlation_of_every_pixel(
    fill: str, rank: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer, frames = tiny_recognizer(), random_frames(3)
    masks = masks_of("corr-rise", 80, fill=fill, rank=rank)
    references = recognizer.embed(frames[1:])
    masked = masked_embeddings(recognizer, frames[0], masks)
    got = pair_maps(masks, masked, references)
    oracle = scipy.stats.spearmanr if rank == "true" else scipy.stats.pearsonr
    pixels = whole(masks).reshape(80, -1).astype(np.float64)
    for number, reference in enumerate(references):
        weights = [cosine(embedding, reference) for embedding in masked]
        expected = [
            oracle(pixel, weights).statistic if np.ptp(pixel) > 0 else 0.0 for pixel in pixels.T
        ]
        np.testing.assert_allclose(got[number].ravel(), np.maximum(expected, 0), atol=2e-7)
    assert (got == 0).any() and (got > 0.1).any()
    monkeypatch.setattr(rise, "RANKED", 80 * 100)  # strips of 100 pixels
    np.testing.assert_array_equal(pair_maps(masks, masked, references), got)


class TwoByTwo:
    """Four masks of 1 x 3 pixels; the last pixel is never hidden."""

    count, frame = 4, (1, 3)
    values = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1], [0, 0, 1]], np.float32)

    def __init__(self, **options: str) -> None:
        self.options = tuple(options.items())

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter([self.values[:3, None], self.values[3:, None]])


def test_a_pixel_that_never_varies_is_zero() -> None:
    """By hand: s = (0, 3, 3, 0) follows pixel 0 exactly and pixel 1 not at all."""
    masks = TwoByTwo(fill="black", rank="false")
    got = rise.correlation(np.array([[0.0, 0.3, 0.3, 0.0], [0.4, 0.4, 0.4, 0.4]]), masks)
    np.testing.assert_allclose(got, [[1, 0, 0], [0, 0, 0]], atol=1e-15)
    assert got[0, 2] == 0 and (got[1] == 0).all()


def test_weighted_mean_by_hand() -> None:
    """Plain: (.25 - 1) / 2, (.5 - 1) / 2, the sum / 2. The mean is -.03125: centered, the weights
    are .53125, .28125, -.96875, .15625, and a pixel that is never hidden gets 0."""
    similarities = np.array([[0.5, 0.25, -1.0, 0.125]])
    got = rise.weighted_mean(similarities, TwoByTwo(weights="plain"))
    np.testing.assert_array_equal(got, [[-0.375, -0.25, -0.0625]])
    got = rise.weighted_mean(similarities, TwoByTwo(weights="centered"))
    np.testing.assert_array_equal(got, [[-0.34375, -0.21875, 0.0]])
    lifted = rise.weighted_mean(similarities / 4 + 0.5, TwoByTwo(weights="centered"))
    np.testing.assert_array_equal(lifted, got / 4)  # what all similarities share does not matter


class Seldom(TwoByTwo):
    """Seven masks; by chance the first pixel is kept in six, the second in one."""

    count = 7
    values = np.array([[1, 0, 0]] * 4 + [[1, 0, 1]] * 2 + [[0, 1, 1]], np.float32)


def test_coverage_makes_no_map() -> None:
    """By hand: similarities .8 or .84, the higher where the last pixel is kept, so that one counts.

    Plain: (4 * .8 + 2 * .84, .84, 3 * .84) / 3.5: the first pixel wins, because it was kept often.
    Centered: mean 5.72 / 7; the deviations are -.12 / 7 (four times) and .16 / 7 (three times):
    (-.48 + .32, .16, .48) / 7 / 3.5.
    """
    similarities = np.array([[0.8] * 4 + [0.84] * 3])
    plain = rise.weighted_mean(similarities, Seldom(weights="plain"))
    np.testing.assert_allclose(plain, [[4.88 / 3.5, 0.84 / 3.5, 2.52 / 3.5]], atol=1e-8)
    centered = rise.weighted_mean(similarities, Seldom(weights="centered"))
    np.testing.assert_allclose(centered, [[-0.16 / 24.5, 0.16 / 24.5, 0.48 / 24.5]], atol=1e-8)


class Constant:
    """A recognizer that looks at nothing; its output trembles in the last bits of float32."""

    name = "constant"
    fingerprint = "constant"

    def __init__(self, noise: float) -> None:
        self.noise = noise

    def embed(self, frames: np.ndarray) -> np.ndarray:
        level = frames.mean(axis=(1, 2, 3), dtype=np.float64)[:, None] / 255
        return np.asarray([[0.3, -0.7, 0.1, 0.2]] * (1 + self.noise * level), np.float32)


EVERY = [
    ("s-rise", {"weights": "centered"}),
    ("s-rise", {"weights": "plain"}),
    ("corr-rise", {"rank": "false"}),
    ("corr-rise", {"rank": "true"}),
]


@pytest.mark.parametrize("noise", [0.0, 2e-7])
@pytest.mark.parametrize(("name", "options"), EVERY)
def test_a_map_that_does_not_depend_on_the_photo_is_degenerate(
    name: str, options: dict[str, str], noise: float
) -> None:
    masks = masks_of_each(name, 40, 3, **options)
    masked, clean = embedded(Constant(noise), random_frames(3), masks)
    pairs = ordered_pairs(3, None, np.random.default_rng(0))
    got, total, degenerate = perturbation_identity_map(masks, masked, clean, pairs)
    assert (total, degenerate) == (6, 6) and (got == 0).all()


def test_centered_weights_and_own_masks_agree_between_seeds() -> None:
    """The share of a map that its masks make, not the photo, is what two seeds do not share."""

    def agreement(weights: str, own: bool) -> float:
        frames, maps = random_frames(4) // 4 + np.uint8(120), []
        pairs = ordered_pairs(4, None, np.random.default_rng(0))
        for seed in (0, 1):
            names = [f"p_{image}" if own else "all" for image in range(4)]
            masks = [masks_of("s-rise", 200, image=n, seed=seed, weights=weights) for n in names]
            masked, clean = embedded(tiny_recognizer(), frames, masks)
            maps.append(perturbation_identity_map(masks, masked, clean, pairs)[0].ravel())
        return float(np.corrcoef(np.stack(maps))[0, 1])

    plain, shared, centered = (
        agreement(weights, own)
        for weights, own in (("plain", True), ("centered", False), ("centered", True))
    )
    assert centered > shared + 0.05 and centered > plain + 0.05


# Identities ---------------------------------------------------------------------------------------


def by_hand(
    masks: Sequence[MaskSet], masked: Sequence[np.ndarray], clean: np.ndarray, pairs: np.ndarray
) -> np.ndarray:
    total = np.zeros(masks[0].frame)
    for explained, reference in pairs:
        (saliency,) = pair_maps(
            masks[explained], masked[explained], clean[reference : reference + 1]
        )
        total += (saliency - saliency.min()) / (saliency.max() - saliency.min())
    return total / len(pairs)


@pytest.mark.parametrize("name", METHODS_)
def test_an_identity_is_the_mean_of_its_normalized_pair_maps(name: str) -> None:
    masks = masks_of_each(name, 70, 4)
    masked, clean = embedded(tiny_recognizer(), random_frames(4), masks)
    pairs = ordered_pairs(4, 7, np.random.default_rng(0))
    got, total, degenerate = perturbation_identity_map(masks, masked, clean, pairs)
    assert (total, degenerate) == (7, 0)
    np.testing.assert_allclose(got, by_hand(masks, masked, clean, pairs), atol=1e-6)
    assert got.dtype == np.float32


@pytest.mark.parametrize("options", [{}, {"fill": "uniform"}, {"fill": "uniform", "rank": "true"}])
def test_blocks_of_pairs_change_no_bit(
    options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = masks_of_each("corr-rise" if options else "s-rise", 150, 5, **options)
    masked, clean = embedded(Wide(), random_frames(5), masks)
    pairs = ordered_pairs(5, None, np.random.default_rng(0))
    first, *_ = perturbation_identity_map(masks, masked, clean, pairs)
    monkeypatch.setattr(perturbation, "PAIR_BYTES", 8 * SIDE * SIDE * 3)  # three pairs at a time
    again, *_ = perturbation_identity_map(masks, masked, clean, pairs)
    np.testing.assert_array_equal(first, again)


class Regrouped(MaskSet):
    """The same masks, handed out by fives."""

    def tensors(self) -> Iterator[torch.Tensor]:
        everything = torch.cat(list(super().tensors())).numpy()
        return map(torch.from_numpy, np.split(everything, range(5, self.count, 5)))


@pytest.mark.parametrize("name", METHODS_)
def test_sums_do_not_depend_on_the_grouping_of_masks(name: str) -> None:
    """Every partial sum is exact, so not one bit may differ."""
    masks = masks_of(name, 150)
    masked, clean = embedded(tiny_recognizer(), random_frames(2), [masks, masks])
    regrouped = Regrouped(masks.method, masks.frame, masks.image, masks.seed, masks.options)
    expected = pair_maps(masks, masked[0], clean)
    np.testing.assert_array_equal(pair_maps(regrouped, masked[0], clean), expected)


@pytest.mark.parametrize("weights", ["plain", "centered"])
def test_s_rise_has_the_bits_of_numpys_sums(weights: str) -> None:
    """And masks that are no `DeviceMasks` give the same map."""
    masks = masks_of("s-rise", 150, weights=weights)
    scores = np.random.default_rng(5).uniform(-0.2, 1, (3, 150))
    shares = scores if weights == "plain" else (scores - scores.mean(axis=1, keepdims=True)) / 2
    scale = 2.0 ** (52 - math.ceil(math.log2(150 * 2**16)))
    shares = np.rint(shares * scale) / scale * (1 if weights == "plain" else 2)
    values = np.concatenate(list(masks)).reshape(150, -1).astype(np.float64)
    made = rise.weighted_mean(scores, masks)
    np.testing.assert_array_equal(made, shares @ values / 75)

    class Held:
        count, frame, options = 150, FRAME, masks.options

        def __iter__(self) -> Iterator[np.ndarray]:
            return iter(masks)

    np.testing.assert_array_equal(rise.weighted_mean(scores, Held()), made)


def test_maps_are_made_where_the_recognizer_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    plain = MaskSet.group_on

    def drawn(masks: MaskSet, index: int, device: torch.device) -> torch.Tensor:
        asked.append(device)
        return plain(masks, index, device)

    monkeypatch.setattr(MaskSet, "group_on", drawn)
    processor, options = torch.device("cpu", 0), {"masks": "150"}
    masks = mask_set(method_of("s-rise"), FRAME, "one", seed=0, options=options, device=processor)
    rise.weighted_mean(np.zeros((1, 150)), masks)
    assert asked == [processor] * 3


def test_degenerate_maps_are_left_out_and_counted() -> None:
    """A zero embedding has no cosine, so a pair that it is in has no map."""
    masks = masks_of_each("s-rise", 70, 3)
    masked, clean = embedded(Wide(), random_frames(3), masks)
    clean[2] = 0
    pairs = ordered_pairs(3, None, np.random.default_rng(0))
    got, total, degenerate = perturbation_identity_map(masks, masked, clean, pairs)
    assert (total, degenerate) == (6, 2)
    usable = pairs[pairs[:, 1] != 2]
    np.testing.assert_allclose(got, by_hand(masks, masked, clean, usable), atol=1e-6)
    masked[1][7] = 0  # one of the explained image's embeddings
    assert perturbation_identity_map(masks, masked, clean, pairs)[1:] == (6, 3)


def test_an_identity_without_a_map_is_zeros() -> None:
    """Masks that change no embedding: the similarity does not vary, and no pixel correlates."""
    masks = masks_of_each("corr-rise", 40, 2)
    clean = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    masked = [np.tile(embedding, (40, 1)) for embedding in clean]
    pairs = ordered_pairs(2, None, np.random.default_rng(0))
    got, *counts = perturbation_identity_map(masks, masked, clean, pairs)
    assert counts == [2, 2] and (got == 0).all()
    alone, *counts = perturbation_identity_map(masks[:1], masked[:1], clean[:1], pairs[:0])
    assert counts == [0, 0] and (alone == 0).all()


def test_maps_find_the_only_quarter_that_counts() -> None:
    """Keeping the bright quarter keeps the similarity to a reference that is bright there only."""
    frames = np.full((2, *FRAME, 3), 60, np.uint8)
    frames[0, 16:, :16] = 200
    frames[1] = 0
    frames[1, 16:, :16] = 200
    for name in METHODS_:
        masks = masks_of(name, 1000)
        masked, clean = embedded(Wide(), frames, [masks, masks])
        (saliency,) = pair_maps(masks, masked[0], clean[1:])
        largest = saliency >= np.quantile(saliency, 0.9)
        assert largest[16:, :16].sum() / largest.sum() > 0.9, name


def test_memory_does_not_grow_with_the_number_of_masks() -> None:
    def peak(count: int) -> int:
        masks = masks_of("s-rise", count, frame=(64, 64))
        frame = random_frames(1, (64, 64))[0]
        tracemalloc.start()
        masked = masked_embeddings(Wide(), frame, masks)
        perturbation_identity_map([masks], [masked], masked[:1], np.array([[0, 0]]))
        reached = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return reached

    few, many = peak(4 * GROUP), peak(40 * GROUP)
    # What does grow, by far: 36 more groups of masks would be 38 MB.
    assert many - few < 3_000_000
