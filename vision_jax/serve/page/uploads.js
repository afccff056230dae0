// Uploaded images: held in this page's memory, and forgotten with it.

const uploads = new Map();

/** Keep a file and return the name by which a search refers to it. */
export function keep(file) {
  const id = Math.random().toString(36).slice(2, 10);
  uploads.set(id, { file, url: URL.createObjectURL(file) });
  return id;
}

export const kept = (id) => uploads.get(id);

/** Read an upload's bytes as a data: URL. */
export function dataUrl(id) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(uploads.get(id).file);
  });
}

/** The first file of a drop or of the clipboard, or null. */
export const fileOf = (transfer) => transfer?.files?.[0] ?? null;
