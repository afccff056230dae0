// Filters and options: only those that the index has something for.

import { byId, debounced, make } from "./dom.js";
import { number, percent, text } from "./messages.js";
import { DEFAULT_COUNT, FOLD_AT, emptyState } from "./state.js";

const MANY = 12; // labels from which on they can be looked up by name
const PRECISIONS = [0.8, 0.9, 0.95, 0.99]; // thresholds of these are offered, where measured

export class Filters {
  /** `change(parts)` is called with the changed parts of the state. */
  constructor(change) {
    this.change = change;
    this.thresholds = [];
    const later = debounced(300, change);
    byId("filter-form").addEventListener("submit", (event) => event.preventDefault());
    byId("least").addEventListener("input", () => {
      this.#showLeast(this.#least());
      later({ least: this.#least() });
    });
    byId("count").addEventListener("change", (event) => {
      change({ count: Math.round(event.target.valueAsNumber) || DEFAULT_COUNT });
    });
    byId("fold").addEventListener("change", (event) => {
      change({ fold: event.target.checked ? FOLD_AT : null });
    });
    byId("fold-at").addEventListener("change", (event) => {
      change({ fold: event.target.valueAsNumber || FOLD_AT });
    });
    for (const name of ["folder", "from", "to"]) {
      byId(name).addEventListener("change", (event) => change({ [name]: event.target.value }));
    }
    byId("label-find").addEventListener("input", () => this.#findLabel());
    byId("reset").addEventListener("click", () => {
      const { label, split, folder, from, to, least, count, fold } = emptyState();
      change({ label, split, folder, from, to, least, count, fold });
    });
  }

  #least() {
    const value = byId("least").valueAsNumber;
    return value > 0 ? value : null;
  }

  /** Offer what an index has. */
  offer(index, limits) {
    this.thresholds = [...(index.thresholds ?? [])].sort((a, b) => a.min_score - b.min_score);
    byId("count").max = limits.k;
    this.#offerChoices("label", index.labels);
    this.#offerChoices("split", index.splits);
    byId("label-find").hidden = (index.labels?.length ?? 0) < MANY;
    byId("label-find").value = "";
    const folders = index.folders ?? [];
    byId("folders").hidden = folders.length < 2;
    byId("folder").replaceChildren(
      make("option", { value: "", textContent: text("anyFolder") }),
      ...folders.map(({ folder, images }) =>
        make("option", {
          value: folder,
          textContent: `${folder === "." ? text("topFolder") : folder} (${number(images)})`,
        })),
    );
    byId("dates").hidden = !index.dates;
    for (const name of ["from", "to"]) {
      byId(name).min = index.dates?.from?.slice(0, 10) ?? "";
      byId(name).max = index.dates?.to?.slice(0, 10) ?? "";
    }
    const presets = PRECISIONS.map((least) =>
      this.thresholds.find(({ precision }) => precision >= least));
    byId("presets").replaceChildren(
      ...[...new Set(presets)].filter(Boolean).map((threshold) => this.#preset(threshold)));
  }

  #preset({ min_score, precision }) {
    const button = make("button", {
      type: "button", className: "chip",
      textContent: text("precisionAt", { precision: percent(precision) }),
    });
    button.dataset.least = min_score;
    button.addEventListener("click", () => this.change({ least: min_score }));
    return button;
  }

  #offerChoices(name, values = []) {
    byId(`${name}s`).hidden = values.length < 2;
    byId(`${name}-choices`).replaceChildren(...values.map((value) => {
      const box = make("input", { type: "checkbox", name, value: value[name] });
      box.addEventListener("change", () => this.change({ [name]: this.#chosen(name) }));
      const count = make("span", { className: "amount", textContent: number(value.images) });
      return make("label", { title: value[name] },
        box, make("span", { className: "name", textContent: value[name] }), count);
    }));
  }

  #boxes(name) {
    return [...byId(`${name}-choices`).querySelectorAll("input")];
  }

  #chosen(name) {
    return this.#boxes(name).filter((box) => box.checked).map((box) => box.value);
  }

  #findLabel() {
    const wanted = byId("label-find").value.trim().toLowerCase();
    for (const box of this.#boxes("label")) {
      box.parentElement.hidden = !box.checked && !box.value.toLowerCase().includes(wanted);
    }
  }

  /** Draw a state. `searching`: whether hits have similarities. */
  show(state, searching) {
    byId("least").value = state.least ?? 0;
    byId("scores").hidden = byId("count").parentElement.hidden = !searching;
    byId("fold").parentElement.hidden = !searching;
    byId("fold-at").parentElement.hidden = !searching || state.fold === null;
    this.#showLeast(state.least);
    byId("count").value = state.count;
    byId("fold").checked = state.fold !== null;
    byId("fold-at").value = state.fold ?? FOLD_AT;
    for (const name of ["label", "split"]) {
      const chosen = new Set(state[name]);
      for (const box of this.#boxes(name)) box.checked = chosen.has(box.value);
    }
    this.#findLabel();
    for (const name of ["folder", "from", "to"]) byId(name).value = state[name];
    const set = state.label.length + state.split.length + (state.folder !== "")
      + (state.from !== "") + (state.to !== "")
      + (searching ? (state.least !== null) + (state.fold !== null) : 0);
    byId("filter-count").textContent = set ? text("filterCount", { count: set }) : "";
    byId("reset").hidden = set === 0 && state.count === DEFAULT_COUNT;
  }

  #showLeast(least) {
    const shown = least === null ? text("leastAny") : least.toFixed(2);
    byId("least-value").textContent = shown;
    byId("least").setAttribute("aria-valuetext", shown);
    const known = this.thresholds.filter(({ min_score }) => least !== null && min_score <= least);
    const best = known.at(-1); // the highest measured one that is not above
    byId("precision").hidden = !best;
    byId("precision").textContent = best ? text("precisionNote", {
      precision: percent(best.precision), least: best.min_score.toFixed(2),
    }) : "";
    for (const button of byId("presets").children) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.least) === least));
    }
  }
}
