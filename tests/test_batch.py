"""Batches of photographs, including unusual and malicious files."""

import dataclasses
import itertools
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import numpy as np
import odd_files
import pytest
from PIL import Image
from processes import FULL_DISK
from threadpoolctl import threadpool_info, threadpool_limits

from colorlib import colorize, images, samples
from colorlib.photos import batch, outputs, photo


@pytest.fixture
def album(tmp_path):
    """Three photographs, in a folder, a subfolder and a hidden one."""
    folder = tmp_path / "album"
    for place in ("", "summer", ".thumbnails"):
        (folder / place).mkdir(exist_ok=True, parents=True)
        images.write(folder / place / "x.png", samples.square("coffee", 16))
    (folder / "notes.txt").write_text("not an image")
    return folder


def shown(folder):
    return sorted(path.name for path in folder.glob("[!.]*"))


def color(colorizer, *call, **how):
    """Color photographs; return each one's status and the target's name."""
    overwrite = how.get("overwrite", False)
    jobs = batch.plan(*call, overwrite=overwrite)
    outcomes = list(batch.color_all(colorizer, jobs, **how))
    return [(outcome.status, outcome.job.target.name) for outcome in outcomes], outcomes


def places(jobs, output):
    return [str(job.target.relative_to(output)) for job in jobs if not job.problem]


def test_products_have_one_thread_each_while_photographs_are_colored(colorizer, album, tmp_path):
    def threads():
        return {x["num_threads"] for x in threadpool_info() if x["user_api"] == "blas"}

    found = []

    class Watched:
        def __getattr__(self, name):
            found.append(threads())
            return getattr(colorizer, name)

    jobs = batch.plan([album], tmp_path / "out", recursive=True)
    with threadpool_limits(2, user_api="blas"):
        outcomes = list(batch.color_all(Watched(), jobs, at_once=2))
        assert threads() == {2}
    assert [x.status for x in outcomes] == [batch.COLORED] * 2
    assert found and all(x == {1} for x in found)


def test_outputs_never_collide(tmp_path):
    names = ["a/x.jpg", "b/x.jpg", "c/x.png", "d/x.jpg", "e/X.JPG", "f/x.gif", "g/noending"]
    jobs = batch.plan(names, tmp_path)
    assert places(jobs, tmp_path) == [
        *("x.jpg", "x-2.jpg", "x.png", "x-3.jpg", "X-4.JPG", "x.gif.png", "noending.png"),
    ]


def test_a_file_that_cannot_be_written_is_not_taken_for_a_folder(tmp_path):
    with pytest.raises(images.ImageError, match=r"x\.gif: a photograph becomes one of .*\.png"):
        batch.plan(["x.gif"], tmp_path / "x.gif")
    assert not (tmp_path / "x.gif").exists()


def test_folders_keep_their_structure(album, tmp_path):
    out = tmp_path / "out"
    assert places(batch.plan([album], out), out) == ["x.png"]
    assert places(batch.plan([album], out, recursive=True), out) == ["x.png", "summer/x.png"]
    twice = batch.plan([album, album / "x.png", album / "summer"], out, recursive=True)
    assert places(twice, out) == ["x.png", "summer/x.png"]


def test_what_was_colored_is_not_colored_again(album, colorizer):
    out = album / "colored"
    for status in ("colored", "kept"):
        outcomes = list(batch.color_all(colorizer, batch.plan([album], out, True)))
        assert [outcome.status for outcome in outcomes] == [status] * 2
    (out / "x.png").write_bytes(b"mine")
    list(batch.color_all(colorizer, batch.plan([album], out, True)))
    assert (out / "x.png").read_bytes() == b"mine"
    list(batch.color_all(colorizer, batch.plan([album], out, True), overwrite=True))
    assert images.read(out / "x.png").shape == (16, 16, 3)


@pytest.fixture
def twins(tmp_path):
    """Two photographs of one name."""
    for place, pixels in (("a", "coffee"), ("b", "chelsea")):
        (tmp_path / place).mkdir()
        images.write(tmp_path / place / "x.png", samples.square(pixels, 16))
    return [tmp_path / place / "x.png" for place in "ab"]


def test_another_photograph_of_the_same_name_is_colored(twins, tmp_path, colorizer):
    first, second = twins
    out = tmp_path / "out"
    assert color(colorizer, [first], out)[0] == [("colored", "x.png")]
    assert color(colorizer, [second], out)[0] == [("colored", "x-2.png")]
    kept = [("kept", "x-2.png"), ("kept", "x.png")]
    assert color(colorizer, [second, first], out)[0] == kept
    assert color(colorizer, [second.parent], out)[0] == kept[:1]
    assert shown(out) == ["x-2.png", "x.png"]
    assert np.any(images.read(out / "x.png") != images.read(out / "x-2.png"))
    again = color(colorizer, [second, first], out, overwrite=True)[0]
    assert again == [("colored", "x-2.png"), ("colored", "x.png")]


@pytest.fixture
def archive(tmp_path):
    """Two folders of 24 photographs with similar names, some with the same content."""
    for number in range(24):
        for place, end in (("a", ""), ("b", "-2" if number % 2 else "")):
            (tmp_path / place / "inner").mkdir(parents=True, exist_ok=True)
            path = tmp_path / place / ("inner" if number % 3 else "") / f"{number}{end}.png"
            name = "coffee" if place == "a" or number % 4 else "chelsea"
            images.write(path, samples.square(name, 16))
    return [tmp_path / "a", tmp_path / "b"]


def planned(*call, **how):
    return {(job.source, job.target) for job in batch.plan(*call, recursive=True, **how)}


def test_shards_do_what_one_call_does(archive, tmp_path, colorizer):
    whole, out = planned(archive, tmp_path / "out"), tmp_path / "out"
    parts = [planned(archive, out, shard=(number, 4)) for number in (1, 2, 3, 4)]
    assert sum(map(len, parts)) == len(whole) == 48 and set.union(*parts) == whole
    assert max(map(len, parts)) < 24

    def run(number, until=None):
        jobs = batch.plan(archive, out, recursive=True, shard=(number, 4))
        assert {(job.source, job.target) for job in jobs} == parts[number - 1]
        outcomes = batch.color_all(colorizer, jobs, at_once=2)
        statuses = [outcome.status for outcome in itertools.islice(outcomes, until)]
        outcomes.close()
        return statuses

    run(3, until=2)  # as if it was killed
    with ThreadPoolExecutor(3) as pool:
        assert set(itertools.chain(*pool.map(run, (2, 4, 3)))) == {"colored", "kept"}
    assert set(run(1)) == {"colored"}
    assert set(out.rglob("*.png")) == {target for _, target in whole}
    # a line before a file is written, and one after it
    assert sum(path.read_text().count("{") for path in out.rglob(outputs.LIST)) == 2 * 48
    assert set(run(1) + run(2) + run(3) + run(4)) == {"kept"}


def test_a_part_that_does_not_exist_is_refused(archive, tmp_path):
    for shard in ((0, 4), (5, 4)):
        with pytest.raises(ValueError, match=r"no part [05] of 4; the parts are 1 to 4"):
            batch.plan(archive, tmp_path / "out", shard=shard)
    named = [batch.plan(archive[:1], tmp_path / "out", shard=(k, 4)) for k in (1, 2, 3, 4)]
    assert sum(map(len, named)) == 8
    single = tmp_path / "a" / "0.png", tmp_path / "0.jpg"
    assert sum(len(batch.plan(single[:1], single[1], shard=(k, 4))) for k in (1, 2, 3, 4)) == 1


def test_a_moved_album_is_kept_and_a_changed_photograph_is_not(twins, tmp_path, colorizer):
    first, second = twins
    out = tmp_path / "out"
    color(colorizer, [first], out)
    before = (out / "x.png").read_bytes()
    moved = first.parent.rename(tmp_path / "moved") / "x.png"
    os.utime(moved)
    assert color(colorizer, [moved], out)[0] == [("kept", "x.png")]
    second.replace(moved)
    assert color(colorizer, [moved], out)[0] == [("colored", "x-2.png")]
    assert (out / "x.png").read_bytes() == before


def test_a_changed_photograph_is_colored_over_if_wished(twins, tmp_path, colorizer):
    first, second = twins
    color(colorizer, [first], tmp_path / "out")
    second.replace(first)
    done = color(colorizer, [first], tmp_path / "out", overwrite=True)[0]
    assert done == [("colored", "x.png")]
    assert color(colorizer, [first], tmp_path / "out")[0] == [("kept", "x.png")]


def other(colorizer, **settings):
    return colorize.Colorizer(
        colorizer.network, dataclasses.replace(colorizer.decoding, **settings)
    )


def test_other_settings_color_it_again(twins, tmp_path, colorizer):
    out, grey = tmp_path / "out", other(colorizer, saturation=0.0)
    color(colorizer, twins[:1], out)
    before = (out / "x.png").read_bytes()
    for way, how in ((grey, {}), (grey, {"side_by_side": True}), (colorizer, {})):
        statuses, (outcome,) = color(way, twins[:1], out, **how)
        assert statuses == [("colored", "x.png")] and outcome.replaced
        assert ((out / "x.png").read_bytes() == before) == (way is colorizer)
        assert color(way, twins[:1], out, **how)[0] == [("kept", "x.png")]
    (out / "x.png").write_bytes(before + b"retouched")
    assert color(colorizer, twins[:1], out)[0] == [("kept", "x.png")]
    statuses, (outcome,) = color(grey, twins[:1], out)
    assert statuses == [("failed", "x.png")] and "changed since; --overwrite" in outcome.why
    assert (out / "x.png").read_bytes() == before + b"retouched"


def test_a_file_that_nothing_is_known_about_is_not_called_kept(twins, tmp_path, colorizer):
    for out, target in ((tmp_path, tmp_path / "y.png"), (tmp_path / "out",) * 2):
        color(colorizer, twins[:1], target)
        assert color(colorizer, twins[:1], target)[0][0][0] == "kept"
        (out / outputs.LIST).unlink()
        statuses, (outcome,) = color(colorizer, twins[:1], target)
        assert statuses[0][0] == "failed" and "--overwrite" in outcome.why
        assert str(twins[0]) in outcome.why
        assert color(colorizer, twins[:1], target, overwrite=True)[0][0][0] == "colored"
        assert color(colorizer, twins[:1], target)[0][0][0] == "kept"
    statuses, (outcome,) = color(colorizer, twins[1:], tmp_path / "y.png")
    assert statuses == [("failed", "y.png")] and "not known to be made from" in outcome.why


def test_a_kill_between_a_file_and_its_record_is_mended(twins, tmp_path, colorizer, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def killed(*_):
            raise KeyboardInterrupt  # as a kill, it leaves the list as it is

        patch.setattr(outputs, "record", killed)
        color(colorizer, twins[:1], out)
    assert shown(out) == ["x.png"]
    assert color(colorizer, twins[:1], out)[0] == [("colored", "x.png")]
    assert color(colorizer, twins[:1], out)[0] == [("kept", "x.png")]


def test_a_source_is_hashed_once(twins, tmp_path, colorizer, monkeypatch):
    hashed = Mock(side_effect=outputs.content)
    monkeypatch.setattr(outputs, "content", hashed)
    assert color(colorizer, twins[:1], tmp_path / "out")[0] == [("colored", "x.png")]
    hashed.assert_called_once_with(twins[0])
    assert color(colorizer, twins[:1], tmp_path / "out")[0] == [("kept", "x.png")]


def test_odd_lines_of_the_list_are_skipped(twins, tmp_path, colorizer):
    color(colorizer, twins[:1], tmp_path)
    path = tmp_path / outputs.LIST
    row = json.loads(path.read_bytes().splitlines()[-1])
    changes = [{"source_size": []}, {"source": 3}, {"size": None}, {"file": {}}, {"more": 1}]
    odd = [3, None, [], {}, *(row | change for change in changes)]
    with path.open("a") as file:
        file.writelines("\n" + json.dumps(line) for line in odd)
    assert color(colorizer, twins[:1], tmp_path)[0] == [("kept", "x.png")]


def test_a_name_of_which_the_coloring_failed_stays_the_users(tmp_path, colorizer):
    (tmp_path / "x.png").write_bytes(odd_files.PNG[:-60])
    assert color(colorizer, [tmp_path / "x.png"], tmp_path / "out")[0] == [("failed", "x.png")]
    (tmp_path / "out" / "x.png").write_bytes(b"mine")
    color(colorizer, [tmp_path / "x.png"], tmp_path / "out")
    (tmp_path / "x.png").write_bytes(odd_files.PNG)
    color(colorizer, [tmp_path / "x.png"], tmp_path / "out")
    assert (tmp_path / "out" / "x.png").read_bytes() == b"mine"


def test_equal_photographs_of_one_call_keep_their_names(twins, tmp_path, colorizer):
    twins[1].write_bytes(twins[0].read_bytes())
    for status in ("colored", "kept"):
        statuses, _ = color(colorizer, twins, tmp_path / "out")
        assert statuses == [(status, "x.png"), (status, "x-2.png")]


def test_a_record_that_can_not_be_written_is_reported(twins, tmp_path, colorizer, monkeypatch):
    monkeypatch.setattr(outputs, "record", Mock(side_effect=FULL_DISK))
    statuses, (outcome,) = color(colorizer, twins[:1], tmp_path / "out")
    assert statuses == [("colored", "x.png")] and "No space left" in outcome.why


def test_what_lost_its_metadata_is_kept_as_well(twins, tmp_path, colorizer, monkeypatch):
    def losing(colorizer, source, target, *_):
        images.write(target, images.read(source))
        return "the metadata are left out"

    monkeypatch.setattr(batch, "color_file", losing)
    statuses, (outcome,) = color(colorizer, twins[:1], tmp_path / "out")
    assert statuses == [("colored", "x.png")] and "left out" in outcome.why
    assert color(colorizer, twins[:1], tmp_path / "out")[0] == [("kept", "x.png")]


def test_links_in_circles_and_locked_folders_get_a_line(album, tmp_path, colorizer, monkeypatch):
    (album / "self.jpg").symlink_to("self.jpg")
    (album / "one.jpg").symlink_to("two.jpg")
    (album / "two.jpg").symlink_to("one.jpg")
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: "summer" not in path and access(path, mode)
    )
    for paths in ([album], [album / "self.jpg", album / "one.jpg", album / "x.png", album]):
        _, outcomes = color(colorizer, paths, tmp_path / "out", True)
        failed = {outcome.job.source.name: outcome.why for outcome in outcomes if outcome.why}
        assert set(failed) >= {"self.jpg", "summer"} and len(outcomes) - len(failed) == 1
        assert "symbolic links" in failed["self.jpg"] and "permissions" in failed["summer"]


def test_files_of_other_kinds_are_counted(album, tmp_path):
    out = tmp_path / "out"
    assert batch.skipped_files([album], out) == "1 file (1 .txt)"
    assert batch.skipped_files([album / "x.png"], out) == ""
    (album / "summer" / "a.cr2").touch()
    assert batch.skipped_files([album, album / "summer"], out, True).startswith("2 files")


@pytest.mark.parametrize("ending", [".vob", ".ts", ".3g2", ".dv", ".VOB"])
def test_films_of_disks_and_cameras_are_films(tmp_path, ending):
    (tmp_path / f"film{ending}").write_bytes(b"G")
    (tmp_path / "code.ts").write_text("export const x = 1;")
    assert "1 .ts" in batch.skipped_files([tmp_path], tmp_path / "out")
    (job,) = batch.plan([tmp_path], tmp_path / "out")
    assert batch.is_film(job.source) and job.target.name == f"film{ending}.mp4"


def test_photographs_are_not_overwritten(album, colorizer):
    before = (album / "x.png").read_bytes()
    (album / "link.png").symlink_to(album / "summer" / "x.png")
    for paths, output in (
        ([album], album),
        ([album / "x.png"], album / "x.png"),
        ([album / "summer" / "x.png", album / "x.png"], album),
        ([album / "summer" / "x.png"], album / "link.png"),
    ):
        outcomes = list(batch.color_all(colorizer, batch.plan(paths, output), overwrite=True))
        assert any("would overwrite" in outcome.why for outcome in outcomes)
    assert (album / "x.png").read_bytes() == (album / "summer" / "x.png").read_bytes() == before


def test_one_file_can_be_named_several_cannot(tmp_path, album):
    one = tmp_path / "out.jpg"
    assert batch.plan(["x.png"], one)[0].target == one
    for paths in (["x.png", "y.png"], [album]):
        with pytest.raises(images.ImageError, match="name a folder"):
            batch.plan(paths, one)


def test_a_folder_without_photographs_says_so(tmp_path):
    (tmp_path / "none").mkdir()
    for recursive, remedy in ((False, "--recursive"), (True, "name a folder")):
        (job,) = batch.plan([tmp_path / "none"], tmp_path / "out", recursive)
        assert str(tmp_path / "none") in job.problem and remedy in job.problem


def test_loops_of_links_end(album, tmp_path):
    (album / "again").symlink_to(album)
    out = tmp_path / "out"
    assert places(batch.plan([album], out, True), out) == ["x.png", "summer/x.png"]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # the command ignores Pillow's warnings, too
@pytest.mark.parametrize("name", odd_files.ODD)
def test_odd_files_are_colored(tmp_path, colorizer, name):
    path = tmp_path / name
    path.write_bytes(odd_files.ODD[name])
    (outcome,) = batch.color_all(colorizer, batch.plan([path], tmp_path / "out"))
    assert outcome.status == "colored", outcome.why
    before, after = photo.read(path), photo.read(outcome.job.target)
    assert after.shape == before.shape
    assert after.pixels.dtype == before.pixels.dtype
    if path.suffix != ".gif":
        assert (after.alpha is not None) == (before.alpha is not None)
    assert np.abs(before.lightness() - after.lightness()).mean() < 2


@pytest.mark.parametrize("name", ["moving.gif", "moving.webp", "color16_pages.tif", "burst.heic"])
def test_pages_that_are_not_colored_are_named(tmp_path, colorizer, name):
    data = odd_files.frames("HEIF") if name == "burst.heic" else odd_files.ODD[name]
    (tmp_path / name).write_bytes(data)
    jobs = batch.plan([tmp_path / name], tmp_path / "out.jpg")
    (outcome,) = batch.color_all(colorizer, jobs)
    assert outcome.status == "colored" and str(outcome.job.target) in outcome.why
    assert "of 2 pages or frames only the first" in outcome.why and "\n" not in outcome.why


@pytest.mark.parametrize(
    "name",
    ["two_in_one.jpg", "photo.heic", "palette.gif", "color16.tif", "pages.tif", "moving.png"],
)
def test_nothing_is_said_of_photographs_that_are_whole(tmp_path, colorizer, name):
    (tmp_path / name).write_bytes(odd_files.ODD[name])
    (outcome,) = batch.color_all(colorizer, batch.plan([tmp_path / name], tmp_path / "out"))
    assert outcome.status == "colored" and not outcome.why


def test_hostile_files_are_refused_and_the_others_are_done(tmp_path, colorizer):
    for name, (data, _) in odd_files.HOSTILE.items():
        (tmp_path / name).write_bytes(data)
    paths = [tmp_path / name for name in odd_files.HOSTILE]
    images.write(tmp_path / "good.png", samples.square("coffee", 16))
    paths += [odd_files.pipe(tmp_path), tmp_path / "missing.jpg", tmp_path / "good.png"]
    *refused, pipe, missing, good = batch.color_all(colorizer, batch.plan(paths, tmp_path / "out"))
    for outcome in refused:
        reason = odd_files.HOSTILE[outcome.job.source.name][1]
        assert outcome.status == "failed" and reason in outcome.why, outcome
        assert str(outcome.job.source) in outcome.why and ";" in outcome.why
        assert "\n" not in outcome.why
    assert "pipe" in pipe.why and "no such file" in missing.why and good.status == "colored"
    assert shown(tmp_path / "out") == ["good.png"]


def test_a_fault_of_our_own_names_the_file(album, colorizer, monkeypatch):
    monkeypatch.setattr(colorize, "render", lambda *_, **__: 1 / 0)
    (outcome,) = batch.color_all(colorizer, batch.plan([album / "x.png"], album / "out"))
    assert "x.png" in outcome.why and "ZeroDivisionError" in outcome.why


def test_leaving_in_the_middle_leaves_whole_files(tmp_path, colorizer):
    predict = colorizer.network.predict_on_batch
    colorizer.network.predict_on_batch = lambda x: time.sleep(0.02) or predict(x)
    images.write(tmp_path / "0.png", samples.square("coffee", 16))
    for number in range(1, 400):
        (tmp_path / f"{number}.png").hardlink_to(tmp_path / "0.png")
    outcomes = batch.color_all(colorizer, batch.plan([tmp_path], tmp_path / "out"), at_once=2)
    next(outcomes)
    outcomes.close()
    written = list((tmp_path / "out").glob("[!.]*"))
    assert 1 <= len(written) < 400 and all(path.suffix == ".png" for path in written)
    assert all(images.read(path).shape == (16, 16, 3) for path in written)


def test_large_ones_are_alone(tmp_path, colorizer, monkeypatch):
    running, most = set(), []

    def color_file(_, source, target, side_by_side, threads):
        running.add(source)
        most.append(len(running))
        threading.Event().wait(0.01)
        running.discard(source)
        return True

    for number in range(6):
        images.write(tmp_path / f"{number}.png", samples.square("coffee", 16))
    monkeypatch.setattr(batch, "LARGE", 1)
    monkeypatch.setattr(batch, "color_file", color_file)
    list(batch.color_all(colorizer, batch.plan([tmp_path], tmp_path / "out"), at_once=4))
    assert max(most) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into any folder")
def test_a_locked_folder_is_reported(album, tmp_path):
    (album / "summer").chmod(0)
    jobs = batch.plan([album], tmp_path / "out", recursive=True)
    (album / "summer").chmod(0o700)
    assert any("permissions" in job.problem for job in jobs)


def test_gifs_and_deep_pixels_where_the_format_has_8_bits(tmp_path, colorizer):
    (tmp_path / "deep.png").write_bytes(odd_files.ODD["alpha16.png"])
    batch.color_file(colorizer, tmp_path / "deep.png", tmp_path / "deep.webp")
    with Image.open(tmp_path / "deep.webp") as image:
        assert image.mode == "RGBA"
