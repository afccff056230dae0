// The dialog on one image: its picture, its metadata, and what in it matched the query.

import { explain, imageUrl, item as fetchItem } from "./api.js";
import { byId, make, say } from "./dom.js";
import { has, number, percent, score, text } from "./messages.js";
import { fileName, nameOf } from "./results.js";

const DATES = ["date", "taken", "modified"];
const HIDDEN = ["digest"]; // of no use to a reader
const FIRST = ["score", "label", "labels", "path", "date", "folder", "split", "size", "key"];

export class Details {
  /** `search(item)` is called for "Search by this"; `describe(error)` words an error. */
  constructor(search, describe) {
    this.dialog = byId("details");
    this.describe = describe;
    byId("details-close").addEventListener("click", () => this.dialog.close());
    byId("details-search").addEventListener("click", () => {
      this.dialog.close();
      search(this.item);
    });
    byId("details-why").addEventListener("click", () => this.#explain());
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close(); // outside its content
    });
    this.dialog.addEventListener("close", () => this.request?.abort());
  }

  /** Open an item; `query` is what to compare it with, or null. */
  async open(item, index, query, why = false) {
    this.request?.abort();
    this.request = new AbortController();
    const { signal } = this.request;
    Object.assign(this, { item, index, query });
    byId("details-title").textContent = fileName(item);
    byId("details-why").hidden = !query;
    byId("why-note").textContent = "";
    say(byId("error-details"), null);
    byId("pictures").replaceChildren(make("img", {
      src: imageUrl(item.key, index), alt: nameOf(item), className: "picture",
    }));
    this.#showFacts(item);
    if (!this.dialog.open) this.dialog.showModal();
    if (why) this.#explain();
    try {
      const found = await fetchItem(item.key, index, signal);
      if (!signal.aborted) this.#showFacts({ ...item, ...found.item });
    } catch (error) {
      this.#fail(error);
    }
  }

  close() {
    if (this.dialog.open) this.dialog.close();
  }

  #fail(error) {
    if (error.name !== "AbortError") say(byId("error-details"), this.describe(error));
  }

  #showFacts({ width, height, folded, has_image, score: similarity, ...facts }) {
    if (similarity !== undefined) facts.score = score(similarity);
    if (width && height) {
      facts.size = text("pixels", { width: number(width), height: number(height) });
    }
    facts.path ??= fileName(this.item);
    if (facts.folder === ".") delete facts.folder;
    for (const name of ["taken", "modified"]) if (facts[name] === facts.date) delete facts[name];
    const names = [...FIRST.filter((name) => name in facts),
      ...Object.keys(facts).filter((name) => ![...FIRST, ...HIDDEN].includes(name)).sort()];
    byId("facts").replaceChildren(...names.flatMap((name) => {
      const value = facts[name];
      if (value === null || value === undefined || value === "") return [];
      return [
        make("dt", { textContent: has(`fact_${name}`) ? text(`fact_${name}`) : name }),
        make("dd", { textContent: wordsOf(value, name) }),
      ];
    }));
  }

  async #explain() {
    const { signal } = this.request;
    const note = byId("why-note");
    note.textContent = text("whyLoading");
    say(byId("error-details"), null);
    try {
      const body = { query: await this.query(), key: this.item.key };
      if (this.index) body.index = this.index;
      const found = await explain(body, signal);
      if (signal.aborted) return;
      byId("details-why").hidden = true;
      note.textContent = text(found.exact ? "whyExact" : "whyRough", {
        score: score(found.cosine),
      });
      byId("pictures").replaceChildren(
        overlay(found.query, text("whyQuery"), found.pairs, "query"),
        overlay(found.match, text("whyMatch"), found.pairs, "match"),
      );
    } catch (error) {
      note.textContent = "";
      if (!signal.aborted) this.#fail(error);
    }
  }
}

/** One of the two images, its matching regions numbered by their share of the similarity. */
function overlay(source, caption, pairs = [], side) {
  const stage = make("div", { className: "overlay" }, make("img", { src: source, alt: caption }));
  pairs.forEach((pair, place) => {
    const [left, top, right, bottom] = pair[side].map((value) => 100 * value);
    const region = make("span", {
      className: "region", textContent: String(place + 1), title: pair.share === null ? "" : percent(pair.share),
    });
    Object.assign(region.style, {
      left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%`,
    });
    stage.append(region);
  });
  return make("figure", {}, stage, make("figcaption", { textContent: caption }));
}

function wordsOf(value, name) {
  if (Array.isArray(value)) return value.map((part) => wordsOf(part)).join(", ");
  if (DATES.includes(name)) return String(value).replace("T", " ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
