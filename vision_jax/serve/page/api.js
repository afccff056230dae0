// The server's API, as the page uses it; errors carry the field that they are about.

export class ApiError extends Error {
  constructor(message, field = null) {
    super(message);
    this.field = field;
  }
}

async function request(url, options = {}) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("", "network");
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body) return body;
  const { message = `${response.status} ${response.statusText}`, field = null } = body?.error ?? {};
  throw new ApiError(message, field);
}

const get = (path, values, signal) => request(`${path}?${parameters(values)}`, { signal });

const post = (path, body, signal) =>
  request(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });

function parameters(values) {
  const result = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") result.append(name, one);
    }
  }
  return result;
}

export const info = () => get("/api/info", {});
export const item = (key, index, signal) => get("/api/item", { key, index }, signal);
export const browse = (values, signal) => get("/api/browse", values, signal);
export const search = (body, signal) => post("/api/search", body, signal);
export const explain = (body, signal) => post("/api/explain", body, signal);
export const imageUrl = (key, index) => `/api/image?${parameters({ key, index })}`;
export const thumbnailUrl = (key, index, side = 384) =>
  `/api/thumbnail?${parameters({ key, index, side })}`;
