// The grid of images: rows of photographs at their own proportions, drawn as one scrolls.

import { thumbnailUrl } from "./api.js";
import { byId, icon, make } from "./dom.js";
import { score, text } from "./messages.js";

const CHUNK = 40; // images drawn at a time
const SMALL = 100; // pixels; a gallery of images up to this height is shown in lower rows
const PIXELATED = 32; // pixels; up to this size every pixel is shown as a square
const NARROWEST = 0.62; // width over height of a tile

const ratios = new Map(); // of images seen before, whose size the API does not tell, by address

/** What to call an item: its label, else its file's name. */
export function nameOf(item) {
  const label = Array.isArray(item.label) ? item.label.join(", ") : item.label;
  return label || fileName(item);
}

export const fileName = (item) => String(item.path ?? item.key).split(/[\\/]/).at(-1);

function caption(item, name) {
  const line = make("p", { className: "caption" });
  if (item.score !== undefined) {
    line.append(make("span", { className: "score", textContent: score(item.score) }));
  }
  line.append(make("span", { className: "name", textContent: name }));
  return line;
}

export class Results {
  /** `actions`: `search`, `like`, `unlike`, `details` and `why`, each given an item. */
  constructor(actions) {
    this.actions = actions;
    this.list = byId("hits");
    this.clear();
    this.list.addEventListener("keydown", (event) => this.#key(event));
    this.list.addEventListener("focusin", (event) => {
      const tile = event.target.closest(".hit");
      if (tile) this.#makeCurrent(tile);
    });
    const observer = new IntersectionObserver((entries) => {
      this.endIsNear = entries.at(-1).isIntersecting;
      this.#fill();
    }, { rootMargin: "800px" });
    observer.observe(byId("end"));
  }

  clear() {
    this.items = [];
    this.more = null;
    this.generation = (this.generation ?? 0) + 1;
    // Focus must not be lost with what held it.
    if (this.list.contains(document.activeElement)) byId("results").focus({ preventScroll: true });
    this.list.replaceChildren();
  }

  /**
   * Show items. `options`: `index` they are of; `examples` and `why`, the buttons to offer; `more`,
   * a function that resolves to further items, none at the end.
   */
  show(items, { more = null, ...options }) {
    this.clear();
    this.options = options;
    this.items = [...items];
    this.more = more;
    this.sized = false;
    this.#draw();
    if (this.list.firstElementChild) this.#makeCurrent(this.list.firstElementChild);
  }

  /** Draw further items while the end of the list is near the window. */
  async #fill() {
    const { generation } = this;
    while (this.endIsNear && generation === this.generation) {
      if (!this.items.length && this.more) {
        const { more } = this;
        this.more = null; // one request at a time
        const items = await more();
        if (generation !== this.generation) return;
        this.items = items;
        if (items.length) this.more = more;
      }
      if (!this.items.length) return;
      this.#draw();
      await new Promise(requestAnimationFrame);
      this.endIsNear = byId("end").getBoundingClientRect().top < innerHeight + 800;
    }
  }

  #draw() {
    const chunk = this.items.splice(0, CHUNK);
    this.list.append(...chunk.map((item) => this.#tile(item)));
  }

  #tile(item) {
    const name = nameOf(item);
    const spoken = item.score === undefined
      ? name : `${name}, ${text("similarityIs", { score: score(item.score) })}`;
    const photo = this.#button("photo", text("searchBy", { name: spoken }), () =>
      this.actions.search(item));
    photo.append(this.#picture(item, name));
    const frame = make("div", { className: "frame" }, photo, this.#tools(item, name));
    if (item.folded?.length) frame.append(this.#fold(item, name));
    const tile = make("li", { className: "hit", title: fileName(item) }, frame,
      caption(item, name));
    const image = photo.querySelector("img");
    if (item.width && item.height) this.#shape(tile, item.width, item.height);
    else if (ratios.has(image?.src)) this.#shape(tile, ...ratios.get(image.src));
    else {
      this.#shape(tile, 1, 1);
      image?.addEventListener("load", () => {
        ratios.set(image.src, [image.naturalWidth, image.naturalHeight]);
        this.#shape(tile, image.naturalWidth, image.naturalHeight);
      });
    }
    return tile;
  }

  /** Give a tile its image's proportions; the first image of known size sets the rows' height. */
  #shape(tile, width, height) {
    tile.style.setProperty("--ratio", Math.max(width / height, NARROWEST).toFixed(3));
    tile.querySelector("img")?.classList.toggle("pixelated", width > 1 && width <= PIXELATED);
    if (this.sized || height === 1) return;
    this.sized = true;
    this.list.classList.toggle("small", height <= SMALL);
  }

  #picture(item, name) {
    if (item.has_image === false) return make("span", { className: "missing", textContent: name });
    const image = make("img", {
      loading: "lazy", decoding: "async", alt: "",
      src: thumbnailUrl(item.key, this.options.index),
    });
    image.addEventListener("load", () => image.classList.add("loaded"));
    image.addEventListener("error", () =>
      image.replaceWith(make("span", { className: "missing", textContent: name })));
    return image;
  }

  #tools(item, name) {
    const tools = make("div", { className: "tools" });
    if (this.options.examples) {
      tools.append(
        this.#tool("plus", text("likeThis", { name }), () => this.actions.like(item)),
        this.#tool("minus", text("unlikeThis", { name }), () => this.actions.unlike(item)),
      );
    }
    if (this.options.why) {
      const why = this.#button("tool word", text("whyThis", { name }), () => this.actions.why(item));
      why.append(text("whyShort"));
      tools.append(why);
    }
    tools.append(this.#tool("details", text("detailsOf", { name }), () =>
      this.actions.details(item)));
    return tools;
  }

  #tool(sign, name, act) {
    const button = this.#button("tool", name, act);
    button.append(icon(sign));
    return button;
  }

  #button(className, name, act) {
    const button = make("button", { type: "button", className, tabIndex: -1, "aria-label": name });
    if (className !== "photo") button.title = name;
    button.addEventListener("click", act);
    return button;
  }

  #fold(item, name) {
    const count = item.folded.length;
    const fold = this.#button("fold", text("foldedName", { count, name }), () =>
      this.#unfold(fold, item.folded));
    fold.textContent = text("folded", { count });
    fold.setAttribute("aria-expanded", "false");
    return fold;
  }

  /** Show what was folded into a hit after it, or hide it again. */
  #unfold(button, items) {
    const tile = button.closest(".hit");
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    if (!open) {
      const tiles = items.map((item) => this.#tile(item));
      for (const folded of tiles) folded.classList.add("unfolded");
      tile.after(...tiles);
    } else {
      while (tile.nextElementSibling?.classList.contains("unfolded")) {
        tile.nextElementSibling.remove();
      }
    }
  }

  /** Only one tile's buttons are reached by Tab; arrow keys choose which. */
  #makeCurrent(tile) {
    if (tile === this.current) return;
    for (const button of this.current?.querySelectorAll("button") ?? []) button.tabIndex = -1;
    for (const button of tile.querySelectorAll("button")) button.tabIndex = 0;
    this.current = tile;
  }

  #key(event) {
    const tile = event.target.closest(".hit");
    if (!tile || event.ctrlKey || event.metaKey || event.altKey) return;
    const next = {
      ArrowRight: () => tile.nextElementSibling,
      ArrowLeft: () => tile.previousElementSibling,
      ArrowDown: () => this.#below(tile, "nextElementSibling"),
      ArrowUp: () => this.#below(tile, "previousElementSibling"),
      Home: () => this.list.firstElementChild,
      End: () => this.list.lastElementChild,
    }[event.key];
    if (!next) return;
    event.preventDefault();
    next()?.querySelector(".photo").focus();
  }

  /** The tile nearest to one's middle in the next row of a direction. */
  #below(tile, direction) {
    const middle = (element) => {
      const area = element.getBoundingClientRect();
      return area.left + area.width / 2;
    };
    let best = null;
    let row = null;
    for (let other = tile[direction]; other; other = other[direction]) {
      if (other.offsetTop === tile.offsetTop) continue;
      row ??= other.offsetTop;
      if (other.offsetTop !== row) break;
      const distance = Math.abs(middle(other) - middle(tile));
      if (!best || distance < best.distance) best = { other, distance };
    }
    return best?.other ?? null;
  }
}
