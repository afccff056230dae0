"""The gallery and the hits: filtered, folded, explained, and scrolled through."""

import pytest

pytestmark = pytest.mark.slow


def test_the_gallery_is_shown_at_once_and_further_on_scrolling(open_page, folder):
    images = len([*folder.rglob("*.png"), *folder.rglob("*.jpg")])
    page = open_page()
    assert page.inner_text("h1") == "Gallery"
    assert page.inner_text("#status") == f"{images} images"
    assert page.locator(".hit").count() < images
    for _ in range(6):
        page.mouse.wheel(0, 20_000)
        page.wait_for_timeout(150)
    page.until(f"document.querySelectorAll('.hit').length === {images}")
    assert len({tuple(hit) for hit in page.shown()}) > 200


def test_filters_leave_what_passes_them(open_page):
    page = open_page(by="digit 0/0.png")
    body, response = page.searched(lambda: page.check("#label-choices [value='digit 3']"))
    assert body["where"] == {"labels": ["digit 3"]}
    labels = {hit["label"] for hit in response.json()["results"][0]["hits"]}
    assert labels == {"digit 3"}
    page.fill("#label-find", "dahl")
    names = page.locator("#label-choices label:visible .name").all_inner_texts()
    assert names == ["dahlia", "digit 3"]  # what is chosen stays in sight
    page.searched(lambda: page.click("#reset"))
    _, response = page.searched(lambda: page.select_option("#folder", "temple"))
    assert {hit["label"] for hit in response.json()["results"][0]["hits"]} == {"temple"}
    page.searched(lambda: page.select_option("#folder", ""))
    body, response = page.searched(lambda: page.fill("#to", "2020-01-20"))
    hits = response.json()["results"][0]["hits"]
    assert hits
    assert all(hit["date"][:10] <= "2020-01-20" for hit in hits)
    assert "to=2020-01-20" in page.url


def test_the_votes_of_labels_filter(open_page):
    page = open_page("&count=20", by="digit 0/0.png")
    name, share = (page.inner_text(f"#vote-list li:first-child .{n}") for n in ("name", "amount"))
    hits = page.locator(".hit .name").all_inner_texts()
    assert round(100 * hits.count(name) / 20) == round(float(share.rstrip("%")))
    body, _ = page.searched(lambda: page.click("#vote-list li:first-child button"))
    assert body["where"] == {"labels": [name]}


def test_a_least_similarity_with_its_measured_precision(open_page):
    page = open_page(by="digit 0/0.png")
    page.searched(lambda: page.fill("#least", "0.9"))
    assert page.shown()
    assert all(float(score) >= 0.9 for _, score in page.shown())
    least, precision = page.evaluate(
        """async () => {
          const info = await (await fetch("/api/info")).json();
          const known = info.indexes[0].thresholds.filter((t) => t.min_score <= 0.9);
          return [known.at(-1).min_score, known.at(-1).precision];
        }"""
    )
    assert least > 0.85
    percent = f"{100 * precision:.1f}".removesuffix(".0")
    assert f"{percent}% of the hits from {least:.2f} on" in page.inner_text("#precision")
    page.searched(lambda: page.fill("#least", "1"))
    assert page.inner_text("#empty-title") == "Nothing is that similar"
    assert page.inner_text("#status").startswith("0 hits")


def test_near_duplicates_are_folded_and_opened(open_page):
    page = open_page("&count=10", by="dahlia/part.jpg")
    before = page.locator(".hit").count()
    page.searched(lambda: page.check("#fold"))
    page.fill("#fold-at", "0.8")
    body, response = page.searched(lambda: page.press("#fold-at", "Enter"))
    assert body["fold"] == 0.8
    folds = [len(hit["folded"]) for hit in response.json()["results"][0]["hits"]]
    assert max(folds) > 0
    at = next(place for place, count in enumerate(folds) if count)
    button = page.locator(".fold").first
    assert button.inner_text() == f"+{folds[at]} alike"
    tiles = page.locator(".hit").count()
    button.click()
    assert page.locator(".hit").count() == tiles + folds[at]
    assert button.get_attribute("aria-expanded") == "true"
    button.click()
    assert page.locator(".hit").count() == tiles
    assert before == 10


def test_why_shows_both_images_and_their_regions(open_page):
    page = open_page("&count=5", by="temple/whole.jpg")
    page.hover(".hit:nth-child(1)")
    with page.expect_response("**/api/explain") as found:
        page.click(".hit:nth-child(1) .tool.word")
    page.wait_for_selector("#pictures figure")
    pairs = found.value.json()["pairs"]
    assert page.locator(".region").count() == 2 * len(pairs)
    assert f"{found.value.json()['cosine']:.3f}" in page.inner_text("#why-note")
    boxed = open_page("&box=0.1,0.1,0.6,0.6", by="temple/whole.jpg")
    assert boxed.locator(".tool.word").count() == 0  # whole images alone are compared


def test_details_show_the_original_and_its_date(open_page):
    page = open_page("&count=5", by="temple/whole.jpg")
    page.hover(".hit:nth-child(1)")
    page.click(".hit:nth-child(1) .tool:last-child")
    page.wait_for_selector("#details[open]")
    page.until("document.querySelector('.picture').naturalWidth > 0")
    facts = page.inner_text("#facts")
    assert "images/temple/" in facts
    assert "2020-0" in facts
    body, _ = page.searched(lambda: page.click("#details-search"))
    assert "temple" in body["queries"][0]["key"]
    assert not page.evaluate("document.querySelector('#details').open")


def test_a_server_that_is_gone_is_said(open_page):
    page = open_page()
    page.route("**/api/search", lambda route: route.abort())
    page.click(".hit:nth-child(1) .photo")
    page.until("document.querySelector('#error').textContent.includes('not answer')")


def test_no_image_passes_the_filters(open_page):
    page = open_page("/?label=dahlia&to=2019-01-01")
    assert page.inner_text("#empty-title") == "No images here"
    assert page.inner_text("#status") == "0 images"


def test_hostile_names_are_text(open_page, hostile):
    page = open_page(by="dahlia/whole.jpg")
    page.wait_for_timeout(200)
    tile = page.locator(".hit", has_text="<img").first
    assert tile.locator(".name").inner_text() == hostile
    tile.hover()
    tile.locator(".tool").last.click()
    page.wait_for_selector("#facts dd")
    assert hostile in page.inner_text("#facts")
    assert page.locator("img[src=x]").count() == 0
    assert "hacked" not in page.title()


def test_two_hundred_hits_scroll(open_page):
    page = open_page("&count=210", by="digit 0/0.png", height=500)
    assert page.inner_text("#status").startswith("210 hits")
    assert page.locator(".hit").count() < 210
    for _ in range(12):
        page.mouse.wheel(0, 4000)
        page.wait_for_timeout(60)
    page.until("document.querySelectorAll('.hit').length === 210")
    page.locator(".hit").last.scroll_into_view_if_needed()
    page.until("[...document.querySelectorAll('.hit img')].at(-1).naturalWidth > 0")
    scores = [float(score) for _, score in page.shown()]
    assert scores == sorted(scores, reverse=True)
