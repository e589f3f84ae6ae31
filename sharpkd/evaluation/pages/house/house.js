"use strict";
// What the pages share: colours that follow light and dark, how numbers are written, plotly's axes and layout, intervals,
// sortable tables, sliders.
const byId = id => document.getElementById(id);
const colour = {};
function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["panel", "ink", "soft", "line", "grid", "accent", "worse", "middle", "better"])
    colour[name] = style.getPropertyValue("--" + name).trim();
}
function escaped(text) {
  return String(text).replace(/[&<>"]/g, sign => ({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;"})[sign]);
}
const known = value => value !== null && value !== undefined;
function fixed(value, digits) {
  if (!known(value)) return "";
  // + 0: what rounds to nothing has no sign
  return (Number(value.toFixed(digits)) + 0).toLocaleString("en", {minimumFractionDigits: digits, maximumFractionDigits: digits}).replace("-", "−");
}
function signed(value, digits) {
  const text = fixed(value, digits);
  return known(value) && value >= 0 ? "+" + text : text;
}
const plural = (count, noun) => count + " " + noun + (count === 1 ? "" : "s");
// A mean and its interval (low and high may be null) on an axis from -reach to reach, with 0 in the middle
function intervalBar(low, mean, high, reach) {
  const at = value => (50 + 48 * value / reach).toFixed(2) + "%";
  const line = known(low) ? '<i style="left:' + at(low) + ';right:calc(100% - ' + at(high) + ')"></i>' : "";
  return '<span class="span">' + line + '<s style="left:' + at(mean) + '"></s></span>';
}
const config = {displayModeBar: false, responsive: true};
function axis(title, more) {
  return Object.assign({title: {text: escaped(title), font: {size: 12.5}, standoff: 8}, gridcolor: colour.grid,
    linecolor: colour.line, zerolinecolor: colour.line, automargin: true, tickfont: {size: 11.5}}, more);
}
function layout(more) {
  return Object.assign({paper_bgcolor: colour.panel, plot_bgcolor: colour.panel, showlegend: false,
    font: {color: colour.soft, family: "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", size: 12},
    margin: {l: 56, r: 16, t: 14, b: 44}, hovermode: "closest", dragmode: false,
    hoverlabel: {align: "left", bgcolor: colour.panel, bordercolor: colour.line, font: {color: colour.ink, size: 12}}}, more);
}
function onSchemeChange(draw) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

// A heading's button has data-first (ascending or descending); cells have data-value; blanks stay last
function sortBy(heading, order) {
  for (const other of heading.parentNode.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", order);
  const column = heading.cellIndex, body = heading.closest("table").tBodies[0], way = order === "ascending" ? 1 : -1;
  const value = row => row.cells[column].dataset.value;
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === "" || y === "") return (x === "") - (y === "");
    return way * (isFinite(x) && isFinite(y) ? x - y : x.localeCompare(y, "en", {numeric: true}));
  });
  body.append(...rows);
}
function makeSortable(table, sorted = () => {}) {
  for (const heading of table.tHead.rows[0].cells) {
    const button = heading.querySelector("button");
    if (!button) continue;
    button.addEventListener("click", () => {
      const now = heading.getAttribute("aria-sort");
      const order = now ? (now === "ascending" ? "descending" : "ascending") : button.dataset.first;
      sortBy(heading, order);
      sorted(heading, order);
    });
  }
}

// Sliders of one group move together
function makeSliders(boxes) {
  const ranges = boxes.map(box => box.querySelector("input"));
  const show = value => boxes.forEach((box, i) => {
    ranges[i].value = value;
    box.style.setProperty("--at", value + "%");
  });
  for (const range of ranges) range.addEventListener("input", () => show(range.value));
  show(ranges[0].value);
}
