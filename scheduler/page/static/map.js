// The map: every card as a cell on a canvas that is as large as what is visible, however many nodes there are.

import { byId, el, memory, percent } from "./text.js";
import { wrongWith } from "./fleet.js";
import { CARD } from "./store.js";

const CELL = 15, TALL = 20, GAP = 2, LABEL = 15, PAD = 10, COLUMNS = 8;
const SIGNS = { suspect: "!", recovering: "…", cordoned: "×", "not sliced": "–" };
const CORNERS = { mig: 5, mps: 2 };  // modes that are marked, and how tall
const COLOURS = { suspect: "warn", recovering: "warn", cordoned: "bad", "not sliced": "off" };
export const STATES = {
  ok: "takes slices", suspect: "suspect", recovering: "recovering", cordoned: "cordoned", "not sliced": "not sliced",
};

export class FleetMap {
  constructor(fleet, choose) {
    this.fleet = fleet;
    this.choose = choose;
    this.box = byId("map");
    this.room = byId("map-room");
    this.canvas = byId("map-canvas");
    this.cursor = null;
    this.due = false;
    this.box.addEventListener("scroll", () => this.draw(), { passive: true });
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("click", (event) => this.click(event));
    new ResizeObserver(() => this.layout()).observe(this.box);
    this.colours();
  }

  colours() {
    const style = getComputedStyle(document.documentElement);
    this.paint = Object.fromEntries(
      ["back", "text", "quiet", "line", "empty", "used", "warn", "bad", "off", "extra", "focus"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]),
    );
    this.legend();
    this.draw();
  }

  layout() {
    const { widest } = this.fleet;
    this.columns = Math.min(widest, COLUMNS);
    this.lines = Math.ceil(widest / COLUMNS);
    this.tileWidth = this.columns * (CELL + GAP) - GAP + PAD;
    this.tileHeight = LABEL + this.lines * (TALL + GAP) + PAD;
    this.width = Math.max(this.box.clientWidth, this.tileWidth + PAD);
    this.tiles = Math.max(1, Math.floor((this.width - PAD) / this.tileWidth));
    this.height = Math.ceil(this.fleet.shown.length / this.tiles) * this.tileHeight + PAD;
    this.room.style.height = `${Math.max(this.height, 1)}px`;
    this.draw();
  }

  draw() {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => { this.due = false; this.drawNow(); });
  }

  drawNow() {
    const high = this.box.clientHeight;
    if (!high || !this.tiles) return;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const [wide, tall] = [Math.round(this.width * ratio), Math.round(high * ratio)];
    if (this.canvas.width !== wide || this.canvas.height !== tall) {
      this.canvas.width = wide;
      this.canvas.height = tall;
      this.canvas.style.width = `${this.width}px`;
      this.canvas.style.height = `${high}px`;
    }
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = this.paint.back;
    pen.fillRect(0, 0, this.width, high);
    const top = this.box.scrollTop;
    const first = Math.max(0, Math.floor((top - PAD) / this.tileHeight)) * this.tiles;
    const last = Math.min(this.fleet.shown.length, (Math.ceil((top + high) / this.tileHeight) + 1) * this.tiles);
    for (let place = first; place < last; place += 1) this.node(pen, place, top);
  }

  corner(place) {
    return [PAD + (place % this.tiles) * this.tileWidth, PAD + Math.floor(place / this.tiles) * this.tileHeight];
  }

  node(pen, place, top) {
    const name = this.fleet.shown[place];
    const row = this.fleet.nodes.get(name);
    const [x, above] = this.corner(place);
    const y = above - top;
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "top";
    const bad = wrongWith(row);
    pen.fillStyle = bad ? this.paint.bad : this.paint.quiet;
    const most = Math.max(3, Math.floor((this.tileWidth - PAD) / 6.2));
    const label = (bad ? "! " : "") + name;
    pen.fillText(label.length > most ? `${label.slice(0, most - 9)}…${label.slice(-8)}` : label, x, y);
    const shown = this.fleet.active ? new Set(this.fleet.matching(name)) : null;
    row.cards.forEach((card, number) => {
      pen.globalAlpha = shown && !shown.has(number) ? 0.25 : 1;
      const at = [x + (number % COLUMNS) * (CELL + GAP), y + LABEL + Math.floor(number / COLUMNS) * (TALL + GAP)];
      this.card(pen, card, ...at);
      if (this.cursor && this.cursor.node === name && this.cursor.card === number) {
        pen.strokeStyle = this.paint.focus;
        pen.lineWidth = 3;
        pen.strokeRect(at[0] - 1, at[1] - 1, CELL + 2, TALL + 2);
      }
    });
    pen.globalAlpha = 1;
  }

  card(pen, card, x, y) {
    const state = card[CARD.state];
    pen.fillStyle = this.paint.empty;
    pen.fillRect(x, y, CELL, TALL);
    const full = card[CARD.memory] ? Math.min(1, card[CARD.used] / card[CARD.memory]) : 0;
    const deep = card[CARD.used] ? Math.max(2, Math.round(full * TALL)) : 0;
    pen.fillStyle = this.paint.used;
    pen.fillRect(x, y + TALL - deep, CELL, deep);
    pen.fillStyle = this.paint.back;  // a line between two slices
    for (let slice = 1; slice < Math.min(card[CARD.slices], 6); slice += 1) {
      pen.fillRect(x, Math.round(y + TALL - (deep * slice) / card[CARD.slices]), CELL, 1);
    }
    if (card[CARD.mode] in CORNERS) {
      pen.fillStyle = this.paint.extra;
      pen.fillRect(x + CELL - 5, y, 5, CORNERS[card[CARD.mode]]);
    }
    pen.lineWidth = state === "ok" ? 1 : 2;
    pen.strokeStyle = state === "ok" ? this.paint.off : this.paint[COLOURS[state] || "bad"];
    pen.strokeRect(x + 0.5, y + 0.5, CELL - 1, TALL - 1);
    if (state !== "ok") {
      pen.fillStyle = this.paint[COLOURS[state] || "bad"];
      pen.fillRect(x + 2, y + 2, CELL - 4, 12);
      pen.fillStyle = this.paint.back;
      pen.font = "bold 11px system-ui, sans-serif";
      pen.fillText(SIGNS[state] || "?", x + 5, y + 2);
    }
  }

  legend() {
    const samples = [
      ["empty", ["", 0, "", "", "preload", "ok", "", 0, 100, 0, 100, 0, 10, 0]],
      ["held, a line between slices", ["", 0, "", "", "preload", "ok", "", 0, 100, 75, 100, 0, 10, 3]],
      ["MIG", ["", 0, "", "", "mig", "ok", "", 0, 100, 30, 100, 0, 10, 1]],
      ["MPS", ["", 0, "", "", "mps", "ok", "", 0, 100, 30, 100, 0, 10, 1]],
      ...Object.keys(SIGNS).map((state) => [state, ["", 0, "", "", "preload", state, "", 0, 100, 0, 100, 0, 10, 0]]),
    ];
    byId("legend").replaceChildren(...samples.map(([words, card]) => {
      const canvas = el("canvas", { width: 2 * CELL, height: 2 * TALL, "aria-hidden": "true" });
      canvas.style.width = `${CELL}px`;
      canvas.style.height = `${TALL}px`;
      const pen = canvas.getContext("2d");
      pen.scale(2, 2);
      pen.textBaseline = "top";
      this.card(pen, card, 0, 0);
      return el("li", {}, canvas, words);
    }));
  }

  // ---- the cursor
  forget() {
    this.cursor = null;
    byId("cursor").textContent = "No card is selected.";
  }

  set(node, card, open) {
    const row = this.fleet.nodes.get(node);
    if (!row || !row.cards[card]) return;
    this.cursor = { node, card };
    const entry = row.cards[card];
    const held = `${percent(entry[CARD.used], entry[CARD.memory])} % of ${memory(entry[CARD.memory])} held in ${entry[CARD.slices]} slices`;
    byId("cursor").textContent = `${node}, card ${entry[CARD.index]}: ${entry[CARD.model]}, ${STATES[entry[CARD.state]] || entry[CARD.state]}, ${held}`;
    const place = this.fleet.places.get(node);
    if (place !== undefined && this.tiles) {
      const [, y] = this.corner(place);
      if (y < this.box.scrollTop) this.box.scrollTop = y - PAD;
      else if (y + this.tileHeight > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = y + this.tileHeight - this.box.clientHeight;
    }
    this.draw();
    if (open) this.choose(node, card);
  }

  click(event) {
    const bounds = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - bounds.left - PAD, event.clientY - bounds.top + this.box.scrollTop - PAD];
    const [column, line] = [Math.floor(x / this.tileWidth), Math.floor(y / this.tileHeight)];
    const node = this.fleet.shown[line * this.tiles + column];
    if (column < 0 || column >= this.tiles || !node) return;
    const [inX, inY] = [x - column * this.tileWidth, y - line * this.tileHeight - LABEL];
    const card = Math.max(0, Math.floor(inY / (TALL + GAP))) * COLUMNS + Math.floor(inX / (CELL + GAP));
    const cards = this.fleet.nodes.get(node).cards.length;
    if (cards) this.set(node, Math.min(card, cards - 1), true);
  }

  key(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: 0, ArrowDown: 0, Home: 0, End: 0 };
    const { shown, nodes } = this.fleet;
    if (!shown.length) return;
    if (event.key === "Enter" || event.key === " ") {
      if (this.cursor) this.choose(this.cursor.node, this.cursor.card);
    } else if (!(event.key in steps)) {
      return;
    } else {
      let place = this.cursor ? this.fleet.places.get(this.cursor.node) ?? 0 : 0;
      let card = this.cursor ? this.cursor.card + steps[event.key] : 0;
      if (event.key === "ArrowUp") place -= this.tiles;
      if (event.key === "ArrowDown") place += this.tiles;
      if (event.key === "Home") [place, card] = [0, 0];
      if (event.key === "End") [place, card] = [shown.length - 1, 0];
      place = Math.max(0, Math.min(shown.length - 1, place));
      if (card < 0) { place = Math.max(0, place - 1); card = nodes.get(shown[place]).cards.length - 1; }
      if (card >= nodes.get(shown[place]).cards.length) { place = Math.min(shown.length - 1, place + 1); card = 0; }
      this.set(shown[place], Math.max(card, 0), false);
    }
    event.preventDefault();
  }
}
