// Small helpers over the DOM. Text reaches the page by textContent alone, never as HTML.

export const byId = (id) => document.getElementById(id);

/** Make an element; `properties` are set as they are, those with a dash as attributes. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** An icon of index.html's sprite, silent for screen readers: its button has the name. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.classList.add("icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** Show a message in an element, or hide it where there is none. */
export function say(element, message) {
  element.textContent = message ?? "";
  element.hidden = !message;
}

/** Call a function once calls have ceased for a while. */
export function debounced(milliseconds, call) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...values), milliseconds);
  };
}
