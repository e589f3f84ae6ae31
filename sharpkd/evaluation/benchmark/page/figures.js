// The data, how its numbers are written, and which colour and sign a model has.
const data = JSON.parse(byId("data").textContent);
const metrics = {
  psnr: {title: "PSNR", unit: " dB", digits: 2, better: 1},
  ssim: {title: "SSIM", unit: "", digits: 4, better: 1},
  lpips: {title: data.lpips, unit: "", digits: 4, better: -1},
};
const about = {gaussian: "Gaussian blur", noisy: "blur and noise", lowres: "shrunk, enlarged", sharp: "already sharp",
  conference: "shrunk, JPEG", folder: "own images"};
for (const scale of [2, 3, 4]) about["sr x" + scale] = "super-resolution";
const models = data.models;
const contenders = models.filter(model => model.kind !== "input")
  .sort((a, b) => (a.kind === "baseline") - (b.kind === "baseline"));
const tracks = [...new Set(data.conditions.map(one => one.track))];
const restoring = tracks.filter(track => track !== "sharp");
const figuresOf = (model, track) => model.tracks[track] || {};
const conditionsOf = track => data.conditions.filter(one => one.track === track);
const measuredIn = metric => models.some(model => Object.values(model.tracks).some(one => known(one[metric])));
const used = Object.keys(metrics).filter(measuredIn);

// The files hold a cap where nothing differs: a PSNR that is infinite
function decibels(value, digits, unit = "") {
  return known(value) && value >= data.cap ? "identical" : fixed(value, digits) + (known(value) ? unit : "");
}
const percent = value => known(value) ? fixed(value * 100, value > 0 && value < .1 ? 1 : 0) + " %" : "";
function milliseconds(value) {
  return known(value) ? fixed(value, value < 10 ? 1 : 0) : "";
}
// Names differ at both ends
const shortened = (text, length) => text.length <= length ? text
  : text.slice(0, Math.ceil((length - 1) / 2)) + "…" + text.slice(-Math.floor((length - 1) / 2));
const breakable = name => escaped(name).replace(/[_.\-\/+]/g, "$&<wbr>");
const narrow = () => innerWidth < 700;
// σ, factor or quality behind the track's name
function label(condition) {
  if (!condition.name.includes("/")) return condition.name;
  const setting = condition.name.slice(condition.name.indexOf("/") + 1);
  return {gaussian: "σ " + setting, lowres: "÷" + setting}[condition.track] || setting;
}
function gainClass(value, better) {
  return !known(value) || value === 0 ? "" : value * better > 0 ? "up" : "down";
}

const strong = {
  light: ["#0b7a75", "#c8501e", "#3b5bdb", "#a61e88", "#5c7c10", "#7048e8", "#b8860b", "#c2255c", "#1971c2", "#6b4226"],
  dark: ["#4fd1c5", "#ff9a5c", "#91a7ff", "#f07ad8", "#b5d94c", "#b197fc", "#ffd43b", "#ff8fb1", "#74c0fc", "#d0a37c"],
};
const muted = {
  light: ["#849093", "#5c6b70", "#a3937a", "#7d85a8", "#a07f8d", "#7f9a86"],
  dark: ["#8f9b9d", "#bcc6c8", "#c4b493", "#a3abd0", "#c7a2b1", "#a3c2ab"],
};
const dashes = ["dot", "dash", "longdash", "dashdot", "longdashdot"];
const symbols = ["circle", "diamond", "square", "triangle-up", "triangle-down", "star", "hexagon", "pentagon"];
const hollow = ["circle-open", "diamond-open", "square-open", "triangle-up-open", "triangle-down-open", "x-open"];
const looks = new Map();
function readLooks() {
  const scheme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const count = {own: 0, baseline: 0};
  for (const model of contenders) {
    const own = model.kind !== "baseline", number = own ? count.own++ : count.baseline++;
    const pick = list => list[number % list.length];
    looks.set(model.name, own
      ? {colour: pick(strong[scheme]), dash: number < 10 ? "solid" : "dash", symbol: pick(symbols), width: 2.6, size: 11}
      : {colour: pick(muted[scheme]), dash: pick(dashes), symbol: pick(hollow), width: 1.8, size: 9});
  }
  for (const [name, look] of looks)
    for (const place of document.querySelectorAll("[data-model]"))
      if (place.dataset.model === name) place.style.setProperty("--of", look.colour);
}
const swatch = name => '<span class="swatch" data-model="' + escaped(name) + '"></span>';
const hidden = new Set();
const shownModels = () => contenders.filter(model => !hidden.has(model.name));

function options(select, choices, groups = false) {
  let parent = select;
  for (const choice of choices) {
    if (groups && choice.group !== (parent.label || "")) {
      parent = select;
      if (choice.group) {
        parent = document.createElement("optgroup");
        parent.label = choice.group;
        select.append(parent);
      }
    }
    parent.append(new Option(choice.title, choice.value));
  }
}
