// Searches the table of corrections. The page holds more of them than it shows without scripts.

const form = document.getElementById("search-form");
const PAGE = 50;
const lines = JSON.parse(document.getElementById("corrections-data").textContent);
// Row and column, as people type them.
const keys = lines.map(line => `${line[0]}\n${line[1]}`.toLowerCase());
const body = document.getElementById("corrections-body");
const input = document.getElementById("search");
const more = document.getElementById("more");
const told = document.getElementById("found");
let shown = PAGE;

// Only text nodes: whatever a label holds stays text.
function cell(text, place) {
  const element = document.createElement(place === 0 ? "th" : "td");
  if (place === 0) element.scope = "row";
  if (place > 1) element.className = "number";
  element.textContent = text;
  return element;
}

function row(line) {
  const element = document.createElement("tr");
  element.append(...line.map(cell));
  return element;
}

function show() {
  const wanted = input.value.trim().toLowerCase();
  const found = lines.filter((_, i) => keys[i].includes(wanted));
  body.replaceChildren(...found.slice(0, shown).map(row));
  more.hidden = found.length <= shown;
  const count = Math.min(shown, found.length).toLocaleString("en");
  told.textContent = `${count} of ${found.length.toLocaleString("en")} shown`;
}

input.addEventListener("input", () => {
  shown = PAGE;
  show();
});
form.addEventListener("submit", event => event.preventDefault());
more.addEventListener("click", () => {
  shown += PAGE;
  show();
});
form.hidden = false;
show();
