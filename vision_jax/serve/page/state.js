// What is searched for, and its form in the page's address: keys and options, never pixels.

export const DEFAULT_COUNT = 60;
export const FOLD_AT = 0.98; // cosine from which images are taken for near-duplicates

const LISTS = ["like", "unlike", "label", "split"];
const WORDS = ["index", "key", "upload", "folder", "from", "to"];

/** A search for nothing, which shows the gallery. */
export function emptyState() {
  return {
    index: "", key: "", upload: "", box: null, like: [], unlike: [],
    label: [], split: [], folder: "", from: "", to: "",
    least: null, count: DEFAULT_COUNT, fold: null,
  };
}

export function readAddress(search) {
  const values = new URLSearchParams(search);
  const state = emptyState();
  for (const name of LISTS) state[name] = values.getAll(name);
  for (const name of WORDS) state[name] = values.get(name) ?? "";
  const box = (values.get("box") ?? "").split(",").map(Number);
  if (box.length === 4 && box.every((side) => side >= 0 && side <= 1)) state.box = box;
  for (const name of ["least", "fold"]) {
    const value = parseFloat(values.get(name));
    if (Number.isFinite(value)) state[name] = value;
  }
  const count = parseInt(values.get("count"), 10);
  if (count > 0) state.count = count;
  return state;
}

export function toAddress(state) {
  const values = new URLSearchParams();
  for (const name of WORDS) if (state[name]) values.set(name, state[name]);
  for (const name of LISTS) for (const value of state[name]) values.append(name, value);
  if (state.box) values.set("box", state.box.map((side) => side.toFixed(4)).join(","));
  for (const name of ["least", "fold"]) if (state[name] !== null) values.set(name, state[name]);
  if (state.count !== DEFAULT_COUNT) values.set("count", state.count);
  const text = values.toString();
  return text ? `/?${text}` : "/";
}

export const hasQuery = (state) => Boolean(state.key || state.upload);
export const hasExamples = (state) => state.like.length + state.unlike.length > 0;

/** The filters as the API's `where`. */
export function whereOf(state) {
  const where = {};
  if (state.label.length) where.labels = state.label;
  if (state.split.length) where.splits = state.split;
  for (const name of ["folder", "from", "to"]) if (state[name]) where[name] = state[name];
  return where;
}

/** The body of a search; `image` is the uploaded image as a data: URL. */
export function searchBody(state, image) {
  const first = state.upload ? { image } : { key: state.key };
  const keys = (list) => list.map((key) => ({ key }));
  const query = hasExamples(state)
    ? { like: [first, ...keys(state.like)], unlike: keys(state.unlike) }
    : { ...first, ...(state.box ? { box: state.box } : {}) };
  const body = { queries: [query], k: state.count, where: whereOf(state) };
  if (state.index) body.index = state.index;
  if (state.least !== null) body.min_score = state.least;
  if (state.fold !== null) body.fold = state.fold;
  return body;
}
