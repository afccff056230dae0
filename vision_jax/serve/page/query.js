// The query panel: an image dropped, pasted or picked, or one of the index, and its examples.

import { imageUrl, thumbnailUrl } from "./api.js";
import { BoxEditor } from "./box.js";
import { byId, debounced, icon, make } from "./dom.js";
import { bytes, text } from "./messages.js";
import { hasExamples, hasQuery } from "./state.js";
import { fileOf, kept } from "./uploads.js";

const KEY_PAUSE = 250; // milliseconds between the last key that moves the box and its search

export class QueryPanel {
  /** `actions`: `upload(file)`, `change(parts)` of the state, `clear()`. */
  constructor(actions) {
    this.actions = actions;
    this.image = byId("query-image");
    this.boxes = new BoxEditor(debounced(KEY_PAUSE, (box) => actions.change({ box })));
    this.image.addEventListener("load", () => this.#preview(true));
    this.image.addEventListener("error", () => this.#preview(false));
    byId("pick").addEventListener("click", () => byId("file").click());
    byId("replace").addEventListener("click", () => byId("file").click());
    byId("clear").addEventListener("click", () => {
      actions.clear();
      byId("pick").focus();
    });
    byId("box-toggle").addEventListener("click", () => {
      if (this.boxes.box) actions.change({ box: null });
      else this.boxes.begin();
    });
    byId("file").addEventListener("change", (event) => {
      if (fileOf(event.target)) actions.upload(fileOf(event.target));
      event.target.value = "";
    });
    this.#watchDrops();
  }

  #watchDrops() {
    const cover = byId("drop-cover");
    document.addEventListener("paste", (event) => {
      if (!fileOf(event.clipboardData)) return;
      event.preventDefault();
      this.actions.upload(fileOf(event.clipboardData));
    });
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      cover.hidden = !event.dataTransfer.types.includes("Files");
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) cover.hidden = true;
    });
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      cover.hidden = true;
      if (fileOf(event.dataTransfer)) this.actions.upload(fileOf(event.dataTransfer));
    });
  }

  #preview(shown) {
    this.image.hidden = !shown;
    byId("no-preview").hidden = shown;
    byId("stage").classList.add("ready");
    byId("stage").classList.toggle("small", shown && this.image.naturalWidth <= 64);
  }

  /** Draw a state, with what the index can do. */
  show(state, index) {
    const chosen = hasQuery(state);
    const upload = kept(state.upload);
    byId("pick").hidden = chosen || !index.can_embed;
    byId("chosen").hidden = !chosen;
    byId("replace").hidden = !index.can_embed;
    if (!chosen) this.image.removeAttribute("src");
    else this.#setImage(upload ? upload.url : imageUrl(state.key, state.index));
    byId("query-name").textContent = upload
      ? text("uploadName", { name: upload.file.name, size: bytes(upload.file.size) })
      : state.key;
    this.#showBox(state, index);
    this.#showExamples(state);
  }

  #setImage(url) {
    if (this.image.getAttribute("src") === url) return;
    byId("stage").classList.remove("ready");
    this.image.hidden = false;
    this.image.src = url;
  }

  #showBox(state, index) {
    const possible = index.can_box && !hasExamples(state);
    this.boxes.enabled = possible;
    this.boxes.show(possible ? state.box : null);
    byId("stage").classList.toggle("drawable", possible);
    byId("box-toggle").hidden = !possible;
    byId("box-toggle").lastElementChild.textContent = text(state.box ? "boxOff" : "boxOn");
    byId("box-hint").hidden = !index.can_box;
    byId("box-hint").textContent = text(
      !possible ? "wholeImages" : state.box ? "boxHelp" : "boxHint");
  }

  #showExamples(state) {
    byId("examples").hidden = !hasExamples(state);
    for (const side of ["like", "unlike"]) {
      byId(side).replaceChildren(...state[side].map((key) => this.#example(state, side, key)));
      byId(side).hidden = byId(`${side}-heading`).hidden = state[side].length === 0;
    }
  }

  #example(state, side, key) {
    const remove = make("button", {
      type: "button", title: text("remove", { name: key }),
      "aria-label": text("remove", { name: key }),
    }, make("img", { src: thumbnailUrl(key, state.index), alt: "" }), icon("close"));
    remove.addEventListener("click", () => {
      this.actions.change({ [side]: state[side].filter((other) => other !== key) });
      byId("clear").focus();
    });
    return make("li", {}, remove);
  }
}
