// Words and elements. Everything that comes from the cluster is text, never markup.

export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Marks that turn the order of letters around would make a name look like another one.
const TURNS = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
export const parsed = (text) => JSON.parse(text.replace(TURNS, "\ufffd"));

export const byId = (id) => document.getElementById(id);

const whole = new Intl.NumberFormat("en");
export const number = (value) => whole.format(value);

export function memory(mib) {
  if (mib >= 1048576) return `${whole.format(Math.round(mib / 10485.76) / 100)} TiB`;
  return mib >= 10240 ? `${whole.format(Math.round(mib / 102.4) / 10)} GiB` : `${whole.format(mib)} MiB`;
}

export const percent = (part, all) => (all ? Math.round((100 * part) / all) : 0);

export function age(seconds) {
  if (!(seconds >= -60)) return "";
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

// The scheduler's time of day in seconds: this machine's may be wrong, and ages are of what the cluster wrote.
let ahead = 0;
export const keepTime = (seconds) => { ahead = seconds - Date.now() / 1000; };
export const now = () => Date.now() / 1000 + ahead;

// A moment of the scheduler's clock as this machine's people read it.
export function clock(seconds) {
  const at = new Date((seconds - ahead) * 1000);
  return now() - seconds < 43200 ? at.toLocaleTimeString() : at.toLocaleString();
}

export const since = (text) => (text ? now() - Date.parse(text) / 1000 : NaN);

export function count(value, one, many = `${one}s`) {
  return `${number(value)} ${value === 1 ? one : many}`;
}
