/* Styles of parts that are loaded when they are needed. */

/** Add a stylesheet, once; resolves when it is there, or cannot be had. */
export function style(path) {
  if (document.querySelector(`link[href="${path}"]`)) return null;
  const link = document.createElement('link');
  link.rel = 'stylesheet';
  link.href = path;
  return new Promise((done) => {
    link.onload = link.onerror = done;
    document.head.append(link);
  });
}
