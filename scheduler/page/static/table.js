// Tables whose rows stay the same elements while their words change, so that focus and selection stay where they are.

import { el, number } from "./text.js";

const PAGE = 50;
export const NOTHING = "Nothing here matches the search.";

// columns: [{ name, of(item) → text or {text, class}, press(item) → what a button does or null, number, narrow }]
export class Table {
  constructor(caption, columns, words) {
    this.columns = columns;
    this.words = words;
    this.page = 0;
    this.items = [];
    this.rows = new Map();
    this.body = el("tbody");
    const heads = columns.map((column) => el("th", { scope: "col", class: column.number ? "number" : null }, column.name));
    this.table = el("table", { class: "cards" }, el("caption", {}, caption), el("thead", {}, el("tr", {}, ...heads)), this.body);
    this.empty = el("p", { class: "quiet" }, words);
    this.before = el("button", { type: "button", onclick: () => this.turn(-1) }, "Previous");
    this.after = el("button", { type: "button", onclick: () => this.turn(1) }, "Next");
    this.where = el("span", { role: "status" });
    this.pages = el("div", { class: "page-of" }, this.before, this.after, this.where);
    this.element = el("div", {}, this.table, this.empty, this.pages);
  }

  turn(step) {
    this.page += step;
    this.show(this.items, this.search);
  }

  // items: [[key, item]], of which a search may have left none
  show(items, search = "") {
    this.items = items;
    this.search = search;
    const last = Math.max(0, Math.ceil(items.length / PAGE) - 1);
    this.page = Math.max(0, Math.min(this.page, last));
    const shown = items.slice(this.page * PAGE, (this.page + 1) * PAGE);
    const keys = new Set(shown.map(([key]) => key));
    for (const [key, row] of this.rows) if (!keys.has(key)) { row.remove(); this.rows.delete(key); }
    let next = this.body.firstElementChild;
    for (const [key, item] of shown) {
      let row = this.rows.get(key);
      if (!row) { row = this.made(); this.rows.set(key, row); }
      this.fill(row, item);
      if (row === next) next = next.nextElementSibling;
      else this.body.insertBefore(row, next);
    }
    this.table.hidden = !items.length;
    this.empty.hidden = Boolean(items.length);
    const words = search ? NOTHING : this.words;
    if (this.empty.textContent !== words) this.empty.textContent = words;
    this.pages.hidden = items.length <= PAGE;
    this.before.disabled = this.page === 0;
    this.after.disabled = this.page === last;
    this.where.textContent = `${number(this.page * PAGE + 1)} to ${number(this.page * PAGE + shown.length)} of ${number(items.length)}`;
  }

  made() {
    return el("tr", {}, ...this.columns.map((column) =>
      el("td", { "data-name": column.name, class: column.number ? "number" : column.narrow ? "narrow" : null })));
  }

  fill(row, item) {
    this.columns.forEach((column, place) => {
      const cell = row.children[place];
      const found = column.of(item);
      const press = column.press?.(item);
      if (press) {
        let button = cell.firstElementChild;
        if (!button) { button = el("button", { type: "button", class: "link" }); cell.replaceChildren(button); }
        button.onclick = press;
        if (button.textContent !== found) button.textContent = found;
        return;
      }
      const text = typeof found === "object" && found ? found.text : String(found ?? "");
      if (cell.textContent !== text) cell.textContent = text;
      const kind = [column.number ? "number" : column.narrow ? "narrow" : "", found?.class || ""].join(" ").trim();
      if (cell.className !== kind) cell.className = kind;
    });
  }
}
