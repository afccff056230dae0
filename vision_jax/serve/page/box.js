// The box drawn on the query: by mouse or finger, or by arrow keys once it has the focus.

import { byId } from "./dom.js";
import { text } from "./messages.js";

const SMALLEST = 0.04; // of a side; a shorter drag is a click
const STEP = 0.02;

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

export class BoxEditor {
  /** `changed(box)` is called at the end of each change, with fractions or null. */
  constructor(changed) {
    this.stage = byId("stage");
    this.element = byId("box");
    this.changed = changed;
    this.enabled = true;
    this.box = null;
    this.stage.addEventListener("pointerdown", (event) => this.#press(event));
    this.element.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Show a box, or none for null, without reporting a change. */
  show(box) {
    this.box = box;
    this.element.hidden = !box;
    if (!box) return;
    const [left, top, right, bottom] = box.map((side) => Math.round(side * 1000) / 10);
    Object.assign(this.element.style, {
      left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%`,
    });
    this.element.setAttribute("aria-label", `${text("box")}. ${text("boxAt", {
      left: Math.round(left), top: Math.round(top),
      right: Math.round(right), bottom: Math.round(bottom),
    })}`);
  }

  /** Put a box in the middle and focus it, for those who do not drag. */
  begin() {
    this.show([0.25, 0.25, 0.75, 0.75]);
    this.element.focus();
    this.changed(this.box);
  }

  /** Whether the image is there, which gives the stage its size. */
  get #ready() {
    return this.stage.classList.contains("ready");
  }

  #place(event) {
    const area = this.stage.getBoundingClientRect();
    return [
      clamp((event.clientX - area.left) / area.width, 0, 1),
      clamp((event.clientY - area.top) / area.height, 0, 1),
    ];
  }

  #press(event) {
    if (!this.enabled || !this.#ready || event.button !== 0) return;
    event.preventDefault();
    const start = this.#place(event);
    const before = this.box;
    const move = this.#mover(event.target, start);
    this.stage.setPointerCapture(event.pointerId);
    const moved = (next) => this.show(move(this.#place(next)));
    const finish = (next) => {
      this.stage.removeEventListener("pointermove", moved);
      this.stage.removeEventListener("pointerup", finish);
      this.stage.removeEventListener("pointercancel", finish);
      const [left, top, right, bottom] = this.box ?? [0, 0, 0, 0];
      const tooSmall = right - left < SMALLEST || bottom - top < SMALLEST;
      if (next.type === "pointercancel" || tooSmall) this.show(before);
      if (this.box) this.element.focus({ preventScroll: true });
      if (String(this.box) !== String(before)) this.changed(this.box);
    };
    this.stage.addEventListener("pointermove", moved);
    this.stage.addEventListener("pointerup", finish);
    this.stage.addEventListener("pointercancel", finish);
  }

  /** What a drag from a place does: draw a box, move it, or pull one of its corners. */
  #mover(target, [x, y]) {
    const corner = target.dataset?.corner;
    if (corner) {
      const [left, top, right, bottom] = this.box;
      const fixed = [corner.includes("w") ? right : left, corner.includes("n") ? bottom : top];
      return (place) => this.#between(fixed, place);
    }
    if (target === this.element) {
      const box = this.box;
      return ([toX, toY]) => this.#shifted(box, toX - x, toY - y);
    }
    return (place) => this.#between([x, y], place);
  }

  #between([x0, y0], [x1, y1]) {
    return [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
  }

  #shifted([left, top, right, bottom], dx, dy) {
    const x = clamp(dx, -left, 1 - right);
    const y = clamp(dy, -top, 1 - bottom);
    return [left + x, top + y, right + x, bottom + y];
  }

  #key(event) {
    const [dx, dy] = {
      ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP],
    }[event.key] ?? [0, 0];
    if (dx || dy) {
      const [left, top, right, bottom] = this.box;
      this.show(event.shiftKey
        ? [left, top, clamp(right + dx, left + SMALLEST, 1), clamp(bottom + dy, top + SMALLEST, 1)]
        : this.#shifted(this.box, dx, dy));
    } else if (event.key === "Delete" || event.key === "Backspace") {
      this.show(null);
      byId("box-toggle").focus();
    } else return;
    event.preventDefault();
    this.changed(this.box);
  }
}
