"""Search by an upload, a hit, a part of an image and examples."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_an_upload_is_searched_by(open_page, folder):
    page = open_page()
    file = folder / "temple" / "whole.jpg"
    _, response = page.searched(lambda: page.set_input_files("#file", file))
    assert page.shown()[0] == ["whole.jpg", "1.000"]
    page.assert_shown(response)
    assert "whole.jpg" in page.inner_text("#query-name")
    assert "whole" not in page.url
    page.reload()  # which forgets it
    page.settle()
    assert "not part of the address" in page.inner_text("#error-query")
    assert page.inner_text("h1") == "Gallery"


def test_an_image_is_pasted(open_page):
    page = open_page()
    paste = """async () => {
      const blob = await (await fetch(document.querySelector(".hit img").src)).blob();
      const files = new DataTransfer();
      files.items.add(new File([blob], "image.png", { type: blob.type }));
      const event = { clipboardData: files, bubbles: true };
      document.body.dispatchEvent(new ClipboardEvent("paste", event));
    }"""
    body, _ = page.searched(lambda: page.evaluate(paste))
    assert body["queries"][0]["image"].startswith("data:image/")


def test_a_click_searches_by_a_hit_and_back_returns(open_page):
    page = open_page()
    _, response = page.searched(lambda: page.click(".hit:nth-child(3) .photo"))
    assert page.inner_text("h1") == "Most similar"
    page.assert_shown(response)
    again = open_page(page.url.removeprefix(page.url.split("/?")[0]))
    assert again.shown()[:40] == page.shown()[:40]
    page.go_back()
    page.until("document.querySelector('h1').textContent === 'Gallery'")


def test_a_box_is_drawn_by_mouse_and_moved_by_keys(open_page):
    page = open_page(by="temple/whole.jpg")
    page.until("document.querySelector('#stage').classList.contains('ready')")
    area = page.locator("#stage").bounding_box()

    def drag():
        page.mouse.move(area["x"] + area["width"] * 0.2, area["y"] + area["height"] * 0.2)
        page.mouse.down()
        page.mouse.move(area["x"] + area["width"] * 0.6, area["y"] + area["height"] * 0.7, steps=3)
        page.mouse.up()

    body, response = page.searched(drag)
    assert body["queries"][0]["box"] == pytest.approx([0.2, 0.2, 0.6, 0.7], abs=0.01)
    page.assert_shown(response)
    start = body["queries"][0]["box"]
    assert page.evaluate("document.activeElement.id") == "box"
    body, _ = page.searched(lambda: page.keyboard.press("ArrowRight"))
    moved = [start[0] + 0.02, start[1], start[2] + 0.02, start[3]]
    assert body["queries"][0]["box"] == pytest.approx(moved)
    body, _ = page.searched(lambda: page.keyboard.press("Shift+ArrowDown"))
    assert body["queries"][0]["box"] == pytest.approx([*moved[:3], moved[3] + 0.02])
    label = page.get_attribute("#box", "aria-label")
    assert "22% to 62% across and 20% to 72% down" in label
    body, _ = page.searched(lambda: page.keyboard.press("Delete"))
    assert "box" not in body["queries"][0]
    body, _ = page.searched(lambda: page.keyboard.press("Enter"))  # on "Search by a part"
    assert body["queries"][0]["box"] == [0.25, 0.25, 0.75, 0.75]


def test_a_box_is_drawn_by_finger(open_page):
    telephone = {"width": 360, "height": 740, "has_touch": True, "is_mobile": True}
    page = open_page(by="temple/whole.jpg", **telephone)
    page.until("document.querySelector('#stage').classList.contains('ready')")
    area = page.locator("#stage").bounding_box()
    touch = page.new_touch()

    def move(kind, *fractions):
        points = [
            {"x": area["x"] + x * area["width"], "y": area["y"] + y * area["height"]}
            for x, y in fractions
        ]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def draw():
        move("touchStart", (0.3, 0.3))
        move("touchMove", (0.5, 0.5))
        move("touchMove", (0.8, 0.9))
        move("touchEnd")

    body, _ = page.searched(draw)
    assert body["queries"][0]["box"] == pytest.approx([0.3, 0.3, 0.8, 0.9], abs=0.02)


def test_examples_are_added_and_taken_back(open_page, folder):
    page = open_page("&box=0.1,0.1,0.9,0.9", by="digit 0/0.png")

    def press(hit, tool):
        page.hover(f".hit:nth-child({hit})")
        page.click(f".hit:nth-child({hit}) .tool:nth-child({tool})")

    near = page.get_attribute(".hit:nth-child(1)", "title")
    body, response = page.searched(lambda: press(1, 1))
    query = body["queries"][0]
    assert query["like"][0] == {"key": f"{folder}/digit 0/0.png"}
    assert Path(query["like"][1]["key"]).name == near
    assert "box" not in query  # examples are whole images, as the page says
    assert "whole images" in page.inner_text("#box-hint")
    page.assert_shown(response)
    far = page.get_attribute(".hit:nth-child(2)", "title")
    body, response = page.searched(lambda: press(2, 2))
    assert [Path(example["key"]).name for example in body["queries"][0]["unlike"]] == [far]
    assert far not in [name for name, _ in page.shown()]
    assert "unlike=" in page.url
    body, _ = page.searched(lambda: page.click("#unlike button"))
    assert not body["queries"][0]["unlike"]


def test_bad_input_is_said_by_the_query(open_page, tmp_path):
    page = open_page()
    page.drop("notes.txt", "text/plain", "no pixels")
    assert page.inner_text("#error-query") == "notes.txt is not an image; its type is text/plain"
    page.searched(lambda: page.drop("broken.png", "image/png", "no pixels"))
    assert "image" in page.inner_text("#error-query")
    assert page.locator(".hit").count() == 0
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0\1\x86\xa0" * 2 + b"\x08\2\0\0\0"
    (tmp_path / "huge.png").write_bytes(header + b"\0" * 64)
    page.searched(lambda: page.set_input_files("#file", tmp_path / "huge.png"))
    assert page.locator("#error-query").is_visible()
    (tmp_path / "large.png").write_bytes(bytes(34 << 20))
    page.set_input_files("#file", tmp_path / "large.png")
    assert "at most 25.2 MB" in page.inner_text("#error-query")
    unknown = open_page("/?key=nothing")
    assert "nothing" in unknown.inner_text("#error-query")
    later = open_page(by="digit 0/0.png")
    later.fill("#count", "5000")
    _, response = later.searched(lambda: later.press("#count", "Enter"))
    assert response.status >= 400
    assert "5000" in later.inner_text("#error-k")
