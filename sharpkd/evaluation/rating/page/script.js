"use strict";
const { study, trials, images } = JSON.parse(document.getElementById("study").textContent);
const main = document.getElementById("rating");
const pair = document.querySelector(".pair");
const pictures = [...pair.querySelectorAll("img")];
const windows = [...pair.querySelectorAll(".window")];
const total = Object.keys(trials).length;
const COLUMNS = ["study", "rater", "trial", "left", "right", "answer", "seconds", "time"];
// CSS pixels: between two pictures, and the height of all that is around them
const GAP = 16;
const BESIDE_ROOM = 180;
const STACKED_ROOM = 240;
// milliseconds; a browser that draws nothing at the moment may never say that a picture is decoded
const DECODING = 3000;

let rater, order, answers, shownAt;

// A generator of numbers in [0, 1) that a text fixes (FNV-1a, then mulberry32): a rater's order survives a reload.
function generator(text) {
  let state = 2166136261;
  for (const letter of text) state = Math.imul(state ^ letter.codePointAt(0), 16777619);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

function arrange(random) {
  const list = Object.entries(trials).map(([trial, [one, two]]) =>
    random() < 0.5 ? { trial, left: one, right: two } : { trial, left: two, right: one });
  for (let last = list.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [list[last], list[other]] = [list[other], list[last]];
  }
  return list;
}

// Browsers can refuse to store (private windows, full disks): the rater has to know.
function stored(name, value) {
  const key = "sharpkd-rating:" + study + ":" + name;
  try {
    if (value !== undefined) localStorage.setItem(key, JSON.stringify(value));
    return JSON.parse(localStorage.getItem(key));
  } catch (error) {
    warn("This browser does not keep your answers (" + error.name + "): save them before you close the page.");
    return null;
  }
}

function warn(text) {
  const box = document.getElementById("warning");
  box.textContent = text;
  box.hidden = false;
}

// The link may name the rater: rating.html#rater=anna
function named() {
  const name = new URLSearchParams(location.hash.slice(1)).get("rater") || "";
  return name.replace(/[^\w-]/g, "").slice(0, 40);
}

function newCode() {
  return "r" + [...crypto.getRandomValues(new Uint8Array(5))].map(byte => byte.toString(16).padStart(2, "0")).join("");
}

function welcome(code) {
  rater = code;
  order = arrange(generator(study + rater));
  answers = (stored("answers:" + rater) || []).slice(0, total);
  main.classList.remove("done");
  if (answers.length === 0) stage("start");
  else show();
}

function stage(name) {
  main.dataset.stage = name;
  if (name !== "trial") delete main.dataset.trial;
}

async function show() {
  const at = answers.length;
  shownAt = null;
  delete main.dataset.trial;
  if (at === total) return stage("end");
  const { trial, left, right } = order[at];
  [left, right].forEach((token, side) => {
    pictures[side].src = images[token];
    pictures[side].dataset.token = token;
  });
  document.getElementById("count").textContent = at + 1 + " of " + total;
  document.getElementById("progress").value = at / total;
  document.getElementById("back").disabled = at === 0;
  document.getElementById("save-now").disabled = at === 0;
  // both appear at once, and nothing can be chosen before
  pair.style.visibility = "hidden";
  const decoded = Promise.all(pictures.map(picture => picture.decode()));
  await Promise.race([decoded, new Promise(resolve => setTimeout(resolve, DECODING))]);
  if (order[answers.length]?.trial !== trial) return;
  stage("trial");
  fit();
  for (const box of windows) box.scrollTo(0, 0);
  pair.style.visibility = "";
  shownAt = performance.now();
  main.dataset.trial = trial;
}

// Each pixel becomes a square of whole screen pixels, so that nothing is resampled: about as large as on a common
// screen where both pictures fit, smaller (down to one screen pixel) where they do not.
function fit() {
  if (main.dataset.stage !== "trial" || !pictures[0].naturalWidth) return;
  const ratio = window.devicePixelRatio || 1;
  const width = document.documentElement.clientWidth - 32;
  const height = document.documentElement.clientHeight;
  let zoom = Math.max(1, Math.round(ratio));
  let stacked;
  for (; ; zoom--) {
    const [w, h] = [pictures[0].naturalWidth, pictures[0].naturalHeight].map(side => (side * zoom) / ratio);
    stacked = 2 * w + GAP > width;
    const fits = stacked ? w <= width && 2 * h + STACKED_ROOM <= height : h + BESIDE_ROOM <= height;
    if (fits || zoom === 1) break;
  }
  pair.classList.toggle("stacked", stacked);
  for (const picture of pictures) {
    picture.style.width = (picture.naturalWidth * zoom) / ratio + "px";
    picture.style.height = (picture.naturalHeight * zoom) / ratio + "px";
  }
}

function choose(answer) {
  if (shownAt === null) return;
  const seconds = ((performance.now() - shownAt) / 1000).toFixed(2);
  answers.push({ ...order[answers.length], answer, seconds, time: new Date().toISOString() });
  stored("answers:" + rater, answers);
  show();
}

function back() {
  if (answers.length === 0) return;
  answers.pop();
  stored("answers:" + rater, answers);
  main.classList.remove("done");
  show();
}

function save() {
  const lines = answers.map(answer => COLUMNS.map(name => ({ study, rater, ...answer })[name]).join(","));
  const url = URL.createObjectURL(new Blob([[COLUMNS.join(","), ...lines, ""].join("\n")], { type: "text/csv" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = "rating_" + study + "_" + rater + ".csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
  document.getElementById("file").textContent = link.download;
  if (answers.length === total) main.classList.add("done");
}

function next() {
  history.replaceState(null, "", location.pathname + location.search);
  const code = newCode();
  stored("rater", code);
  welcome(code);
}

const KEYS = {
  start: { Enter: show },
  trial: { ArrowLeft: () => choose("left"), ArrowRight: () => choose("right"), " ": () => choose("tie"), Backspace: back },
  end: { Enter: save, Backspace: back },
};

document.addEventListener("keydown", event => {
  const action = KEYS[main.dataset.stage][event.key];
  if (!action || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  // whoever moves by tab presses the button that they see marked
  if (event.target.tagName === "BUTTON" && (event.key === " " || event.key === "Enter")) return;
  event.preventDefault();
  action();
});

function onClick(id, action) {
  document.getElementById(id).addEventListener("click", event => {
    if (event.detail > 0) event.currentTarget.blur();
    action();
  });
}

for (const button of document.querySelectorAll("[data-answer]")) {
  button.addEventListener("click", event => {
    if (event.detail > 0) button.blur();
    choose(button.dataset.answer);
  });
}
pictures[0].addEventListener("click", () => choose("left"));
pictures[1].addEventListener("click", () => choose("right"));
windows.forEach((box, side) => box.addEventListener("scroll", () => {
  windows[1 - side].scrollTo(box.scrollLeft, box.scrollTop);
}));
onClick("begin", show);
onClick("back", back);
onClick("undo", back);
onClick("save", save);
onClick("save-now", save);
onClick("next", next);
addEventListener("resize", fit);
addEventListener("hashchange", () => location.reload());
for (const place of document.querySelectorAll(".total")) place.textContent = total;
const first = named() || stored("rater") || newCode();
if (!named()) stored("rater", first);
welcome(first);
