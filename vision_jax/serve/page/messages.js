// The page's words in English and Chinese. `{name}` is replaced by a value.

const ENGLISH = {
  title: "{name}: image search",
  skip: "Skip to the images",
  index: "Index",
  language: "Language",
  query: "Query",
  pick: "Search by an image",
  pickHint: "Drop or paste one, or click to pick a file",
  dropHere: "Drop to search by this image",
  noPreview: "This browser cannot show the file; the search can still read it.",
  replace: "Replace",
  clear: "Clear",
  boxOn: "Search by a part",
  boxOff: "Whole image",
  box: "Part to search by",
  boxHint: "Drag on the image to search by a part of it.",
  boxHelp: "Arrow keys move the box, Shift and arrow keys resize it, Delete removes it.",
  boxAt: "Part from {left}% to {right}% across and {top}% to {bottom}% down",
  wholeImages: "Examples are compared as whole images.",
  uploadName: "{name}, {size}",
  like: "More like these",
  unlike: "Less like these",
  remove: "Remove {name}",
  filters: "Refine",
  filterCount: "{count} set",
  similarity: "Least similarity",
  least: "Least similarity of a hit",
  leastAny: "any",
  precisions: "Thresholds by precision",
  precisionAt: "Precision {precision}",
  precisionNote: "In the run's evaluation, {precision} of the hits from {least} on were of the " +
    "query's class.",
  count: "Hits",
  fold: "Fold near-duplicates",
  foldAt: "Alike from similarity",
  topFolder: "(top folder)",
  labels: "Label",
  labelFind: "Find a label",
  splits: "Split",
  folder: "Folder",
  anyFolder: "All folders",
  dates: "Date",
  from: "From",
  to: "To",
  reset: "Reset",
  gallery: "Gallery",
  results: "Most similar",
  galleryStatus: { one: "{count} image", other: "{count} images" },
  resultsStatus: { one: "{count} hit in {time}", other: "{count} hits in {time}" },
  loading: "Searching …",
  loadingGallery: "Loading …",
  votes: { one: "Label of the nearest image", other: "Labels of the {count} nearest images" },
  voteName: "Show only {label}: {share}, {hits} of {count} hits",
  emptyGallery: "No images here",
  emptyGalleryText: "The index is empty, or no image passes the filters.",
  noHits: "Nothing is that similar",
  noHitsText: "Lower the least similarity, or remove a filter.",
  hitsHelp: "Arrow keys move among the images. Enter searches by one. Tab reaches its other buttons.",
  searchBy: "Search by {name}",
  similarityIs: "similarity {score}",
  likeThis: "More like {name}",
  unlikeThis: "Less like {name}",
  detailsOf: "Details of {name}",
  whyThis: "What matched in {name}",
  whyShort: "Why",
  folded: { one: "+{count} alike", other: "+{count} alike" },
  foldedName: "{count} near-duplicates of {name}",
  close: "Close",
  searchThis: "Search by this",
  why: "What matched?",
  whyLoading: "Comparing …",
  whyExact: "Similarity {score}, divided exactly among the positions of both images. Bright parts " +
    "and numbered regions matched most.",
  whyRough: "Similarity {score}. Bright parts and numbered regions matched most; this network's " +
    "similarity can only be divided approximately.",
  whyQuery: "Query, what matched",
  whyMatch: "Hit, what matched",
  fact_score: "Similarity",
  fact_path: "Original",
  fact_date: "Date",
  fact_taken: "Taken",
  fact_modified: "Modified",
  fact_label: "Label",
  fact_labels: "Labels",
  fact_split: "Split",
  fact_folder: "Folder",
  fact_size: "Size",
  fact_key: "Key",
  pixels: "{width} × {height} pixels",
  notAnImage: "{name} is not an image; its type is {type}",
  tooLarge: "{name} has {size}; at most {limit} can be searched by",
  emptyFile: "{name} is empty",
  noEmbed: "This index has no encoder here: search by its own images, not by an upload.",
  uploadGone: "The uploaded image is not part of the address. Drop or pick it again.",
  network: "The server does not answer. Is it still running?",
  broken: "The page could not go on: {message}",
};

const CHINESE = {
  title: "{name}：以图搜图",
  skip: "跳到图片",
  index: "索引",
  language: "语言",
  query: "查询",
  pick: "用图片搜索",
  pickHint: "拖入或粘贴图片，或点击选择文件",
  dropHere: "松开即以此图搜索",
  noPreview: "浏览器无法显示此文件，但仍可用它搜索。",
  replace: "换一张",
  clear: "清除",
  boxOn: "按局部搜索",
  boxOff: "整张图片",
  box: "搜索区域",
  boxHint: "在图片上拖动，框选要搜索的部分。",
  boxHelp: "方向键移动方框，Shift 加方向键调整大小，Delete 删除。",
  boxAt: "区域：水平 {left}% 到 {right}%，垂直 {top}% 到 {bottom}%",
  wholeImages: "示例按整张图片比较。",
  uploadName: "{name}，{size}",
  like: "更像这些",
  unlike: "不像这些",
  remove: "移除 {name}",
  filters: "筛选",
  filterCount: "已设 {count} 项",
  similarity: "最低相似度",
  least: "结果的最低相似度",
  leastAny: "不限",
  precisions: "按准确率选择阈值",
  precisionAt: "准确率 {precision}",
  precisionNote: "在模型评估中，相似度不低于 {least} 的结果有 {precision} 与查询同类。",
  count: "结果数",
  fold: "合并近似重复的图片",
  foldAt: "视为近似的相似度",
  topFolder: "（顶层文件夹）",
  labels: "标签",
  labelFind: "查找标签",
  splits: "数据划分",
  folder: "文件夹",
  anyFolder: "所有文件夹",
  dates: "日期",
  from: "从",
  to: "到",
  reset: "重置",
  gallery: "图库",
  results: "最相似的图片",
  galleryStatus: { other: "{count} 张图片" },
  resultsStatus: { other: "{count} 个结果，用时 {time}" },
  loading: "正在搜索…",
  loadingGallery: "正在加载…",
  votes: { other: "最相似的 {count} 张图片的标签" },
  voteName: "只看 {label}：{share}，{count} 个结果中有 {hits} 个",
  emptyGallery: "这里没有图片",
  emptyGalleryText: "索引为空，或没有图片符合筛选条件。",
  noHits: "没有足够相似的图片",
  noHitsText: "请降低最低相似度，或去掉一个筛选条件。",
  hitsHelp: "用方向键在图片间移动，按 Enter 以该图搜索，按 Tab 到达其他按钮。",
  searchBy: "以 {name} 搜索",
  similarityIs: "相似度 {score}",
  likeThis: "更像 {name}",
  unlikeThis: "不像 {name}",
  detailsOf: "{name} 的详情",
  whyThis: "{name} 的哪些部分匹配",
  whyShort: "原因",
  folded: { other: "+{count} 张近似" },
  foldedName: "{name} 的 {count} 张近似重复图片",
  close: "关闭",
  searchThis: "以此图搜索",
  why: "为何匹配？",
  whyLoading: "正在比较…",
  whyExact: "相似度 {score}，已精确分配到两张图片的各个位置。明亮部分和编号区域匹配最多。",
  whyRough: "相似度 {score}。明亮部分和编号区域匹配最多；此网络的相似度只能近似分配。",
  whyQuery: "查询图片的匹配部分",
  whyMatch: "结果图片的匹配部分",
  fact_score: "相似度",
  fact_path: "原图",
  fact_date: "日期",
  fact_taken: "拍摄时间",
  fact_modified: "修改时间",
  fact_label: "标签",
  fact_labels: "标签",
  fact_split: "数据划分",
  fact_folder: "文件夹",
  fact_size: "尺寸",
  fact_key: "键",
  pixels: "{width} × {height} 像素",
  notAnImage: "{name} 不是图片，其类型为 {type}",
  tooLarge: "{name} 的大小为 {size}，最大为 {limit}",
  emptyFile: "{name} 是空文件",
  noEmbed: "此索引没有可用的编码器：请用索引中的图片搜索，不能上传。",
  uploadGone: "网址中不含上传的图片，请重新拖入或选择。",
  network: "服务器没有响应，它还在运行吗？",
  broken: "页面无法继续：{message}",
};

const LANGUAGES = { en: ENGLISH, zh: CHINESE };
const STORED = "vision_jax.language";

let language = stored() ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");

function stored() {
  try {
    const value = localStorage.getItem(STORED);
    return value in LANGUAGES ? value : null;
  } catch {
    return null; // storage is switched off
  }
}

export const currentLanguage = () => language;

export function chooseLanguage(value) {
  language = value;
  try {
    localStorage.setItem(STORED, value);
  } catch {
    // The choice then lasts as long as the page.
  }
}

/** A message in the current language; `count` chooses the singular or plural. */
export function text(name, values = {}) {
  let message = LANGUAGES[language][name];
  if (typeof message === "object") {
    const form = new Intl.PluralRules(language).select(values.count);
    message = message[form] ?? message.other;
  }
  return message.replace(/\{(\w+)\}/g, (_, key) => {
    const value = values[key];
    return typeof value === "number" ? number(value) : value;
  });
}

export const has = (name) => name in LANGUAGES[language];
export const number = (value) => new Intl.NumberFormat(language).format(value);
export const percent = (value) =>
  new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 }).format(value);
export const score = (value) => value.toFixed(3);

export function bytes(value) {
  const mega = value >= 1e6;
  return new Intl.NumberFormat(language, {
    style: "unit", unit: mega ? "megabyte" : "kilobyte", maximumFractionDigits: 1,
  }).format(value / (mega ? 1e6 : 1e3));
}

export function duration(seconds) {
  const whole = seconds >= 1;
  return new Intl.NumberFormat(language, {
    style: "unit", unit: whole ? "second" : "millisecond", maximumFractionDigits: whole ? 1 : 0,
  }).format(whole ? seconds : seconds * 1000);
}

/** Write the current language's words into everything that index.html marks. */
export function translate(root = document) {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of root.querySelectorAll("[data-text]")) {
    element.textContent = text(element.dataset.text);
  }
  for (const element of root.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", text(element.dataset.label));
  }
  for (const element of root.querySelectorAll("[data-placeholder]")) {
    element.placeholder = text(element.dataset.placeholder);
  }
}
