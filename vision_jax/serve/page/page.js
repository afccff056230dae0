// The page: keeps the state, asks the API for it, and shows what comes back.

import * as api from "./api.js";
import { Details } from "./details.js";
import { byId, make, say } from "./dom.js";
import { Filters } from "./filters.js";
import {
  bytes, chooseLanguage, currentLanguage, duration, percent, text, translate,
} from "./messages.js";
import { QueryPanel } from "./query.js";
import { Results } from "./results.js";
import { emptyState, hasExamples, hasQuery, readAddress, searchBody, toAddress } from "./state.js";
import { dataUrl, keep, kept } from "./uploads.js";

const BROWSE_LIMIT = 60;
const NO_QUERY = { key: "", upload: "", box: null, like: [], unlike: [] };
const BASE64 = 3 / 4; // bytes in a character of base64
const VOTES = 4; // labels shown
const ERROR_PLACES = ["min_score", "k", "fold", "where"]; // fields with a place of their own

let info;
let state = readAddress(location.search);
let request = new AbortController();

const query = new QueryPanel({
  upload,
  change,
  clear: () => change({ ...NO_QUERY }),
});
const filters = new Filters(change);
const results = new Results({
  search: searchBy,
  like: (item) => addExample("like", item.key),
  unlike: (item) => addExample("unlike", item.key),
  details: (item) => details.open(item, state.index, explained()),
  why: (item) => details.open(item, state.index, explained(), true),
});
const details = new Details(searchBy, describe);

const currentIndex = () => info.indexes.find(({ name }) => name === state.index) ?? info.indexes[0];

/** Change parts of the state, put it into the address, and show it. */
function change(parts) {
  const before = toAddress(state);
  state = { ...state, ...parts };
  const address = toAddress(state);
  if (address !== before) history.pushState(null, "", address);
  return show();
}

function searchBy(item) {
  scrollTo({ top: 0 });
  return change({ ...NO_QUERY, key: item.key });
}

function addExample(side, key) {
  const other = side === "like" ? "unlike" : "like";
  if (state[side].includes(key)) return;
  change({
    box: null,
    [side]: [...state[side], key],
    [other]: state[other].filter((known) => known !== key),
  });
}

/** Search by a file, unless the page can tell at once that it is no image. */
function upload(file) {
  clearErrors();
  const refused = refusal(file);
  if (refused) say(byId("error-query"), refused);
  else change({ ...NO_QUERY, upload: keep(file) });
}

function refusal(file) {
  const { name, size, type } = file;
  const limit = Math.floor(info.limits.upload_bytes * BASE64) - 1e4; // room for the other fields
  if (!currentIndex().can_embed) return text("noEmbed");
  if (type && !type.startsWith("image/")) return text("notAnImage", { name, type });
  if (size === 0) return text("emptyFile", { name });
  if (size > limit) return text("tooLarge", { name, size: bytes(size), limit: bytes(limit) });
  return null;
}

/** How the API is given the query that hits can be explained against, or null where it cannot. */
function explained() {
  if (!currentIndex().can_explain || !hasQuery(state) || hasExamples(state) || state.box) {
    return null;
  }
  const { key, upload: id } = state;
  return async () => (id ? { image: await dataUrl(id) } : { key });
}

/** Show the state: the panels at once, the images when they have come. */
async function show() {
  request.abort();
  request = new AbortController();
  const { signal } = request;
  clearErrors();
  details.close();
  const searching = hasQuery(state) && !(state.upload && !kept(state.upload));
  if (hasQuery(state) && !searching) {
    state = { ...state, ...NO_QUERY };
    say(byId("error-query"), text("uploadGone"));
  }
  query.show(state, currentIndex());
  filters.show(state, searching);
  byId("heading").textContent = text(searching ? "results" : "gallery");
  byId("status").textContent = text(searching ? "loading" : "loadingGallery");
  byId("results").setAttribute("aria-busy", "true");
  try {
    await (searching ? showHits(signal) : showGallery(signal));
  } catch (error) {
    if (error.name !== "AbortError") fail(error);
  } finally {
    if (!signal.aborted) byId("results").setAttribute("aria-busy", "false");
  }
}

async function showHits(signal) {
  const started = performance.now();
  const image = state.upload ? await dataUrl(state.upload) : null;
  const found = await api.search(searchBody(state, image), signal);
  const { hits, votes } = found.results[0];
  const seconds = (performance.now() - started) / 1000;
  byId("status").textContent = text("resultsStatus", {
    count: hits.length, time: duration(seconds),
  });
  showVotes(votes ?? [], hits.length);
  showEmpty(hits.length === 0, "noHits");
  results.show(hits, { index: state.index, examples: true, why: explained() !== null });
}

async function showGallery(signal) {
  const { label, split, folder, from, to, index } = state;
  const part = (offset) => api.browse(
    { index, offset, limit: BROWSE_LIMIT, label, split, folder, from, to }, signal);
  const { items, total } = await part(0);
  let shown = items.length;
  const more = async () => {
    if (shown >= total) return [];
    try {
      const next = (await part(shown)).items;
      shown += next.length;
      return next;
    } catch (error) {
      if (error.name !== "AbortError") say(byId("error"), describe(error));
      return [];
    }
  };
  byId("status").textContent = text("galleryStatus", { count: total });
  showVotes([], 0);
  showEmpty(total === 0, "emptyGallery");
  results.show(items, { index, more, examples: false, why: false });
}

function showVotes(votes, count) {
  byId("votes").hidden = votes.length === 0;
  byId("votes-heading").textContent = text("votes", { count });
  byId("vote-list").replaceChildren(...votes.slice(0, VOTES).map(({ label, share, hits }) => {
    const values = { label, share: percent(share), hits, count };
    const bar = make("span", { className: "bar" });
    bar.style.width = `${100 * share}%`;
    const button = make("button", { type: "button", "aria-label": text("voteName", values) },
      make("span", { className: "name", textContent: label }),
      make("span", { className: "amount", textContent: values.share }), bar);
    button.addEventListener("click", () => change({ label: [label] }));
    return make("li", {}, button);
  }));
}

function showEmpty(empty, message) {
  byId("empty").hidden = !empty;
  byId("empty-title").textContent = text(message);
  byId("empty-text").textContent = text(`${message}Text`);
}

/** Word an error: the server's own message, or what keeps the page from it. */
function describe(error) {
  if (error.field === "network") return text("network");
  return error instanceof api.ApiError ? error.message : text("broken", { message: error.message });
}

/** Show an error at the field that it is about. */
function fail(error) {
  results.clear();
  showVotes([], 0);
  showEmpty(false, "noHits");
  byId("status").textContent = "";
  const field = error.field?.split(".")[0];
  const place = field === "queries" ? "query" : ERROR_PLACES.find((name) => name === field);
  say(byId(place ? `error-${place}` : "error"), describe(error));
  if (place && place !== "query") byId("filters").open = true;
  if (!(error instanceof api.ApiError)) console.error(error);
}

function clearErrors() {
  for (const element of document.querySelectorAll(".error[id]")) say(element, null);
}

/** Write everything that depends on the language or on what the indexes have. */
function prepare() {
  translate();
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === currentLanguage()));
  }
  if (!info) return;
  const index = currentIndex();
  document.title = text("title", { name: index.name });
  byId("index-choice").hidden = info.indexes.length < 2;
  byId("index").replaceChildren(...info.indexes.map(({ name }) =>
    make("option", { value: name, textContent: name, selected: name === index.name })));
  const names = info.indexes.length < 2 ? [index.name, index.encoder] : [index.encoder];
  byId("index-name").textContent = names.filter(Boolean).join(" · ");
  filters.offer(index, info.limits);
}

function listen() {
  for (const button of document.querySelectorAll("[data-language]")) {
    button.addEventListener("click", () => {
      chooseLanguage(button.dataset.language);
      prepare();
      show();
    });
  }
  byId("index").addEventListener("change", (event) => {
    state = { ...emptyState(), index: state.index };
    change({ index: event.target.value }).then(prepare);
  });
  byId("home").addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    change(emptyState());
  });
  addEventListener("popstate", () => {
    const next = readAddress(location.search);
    if (toAddress(next) === toAddress(state)) return; // a jump within the page
    state = next;
    prepare();
    show();
  });
}

async function start() {
  byId("filters").open = matchMedia("(min-width: 50rem)").matches;
  prepare();
  try {
    info = await api.info();
  } catch (error) {
    say(byId("error"), describe(error));
    return;
  }
  listen();
  prepare();
  await show();
}

start();
