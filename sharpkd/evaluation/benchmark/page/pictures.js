// The examples: a slider over the whole picture, one over the enlarged place, and that place from every model.
function slider(kind, alt, frame = "") {
  return '<div class="compare ' + kind + '"><img class="after" alt=""><img class="before" alt="">' + frame
    + '<span class="tag left"></span><span class="tag right"></span><span class="line"></span>'
    + '<input type="range" min="0" max="100" step="0.1" value="50" aria-label="' + escaped(alt) + '"></div>';
}
function verdict(example) {
  const worst = example.outputs.find(one => one.name === example.worst);
  if (worst && known(worst.psnr) && example.condition === "sharp") {
    if (worst.psnr >= data.cap) return escaped(worst.name) + " leaves it as it is, as it should.";
    return escaped(worst.name) + " changes what needs no change: " + fixed(worst.psnr, 2) + " dB to the untouched image.";
  }
  if (!worst || !known(worst.gain)) return "";
  return escaped(worst.name) + (worst.gain < 0 ? " makes it worse: " : " gains least here: ") + signed(worst.gain, 2) + " dB.";
}
function caption(output) {
  const gain = known(output.gain) ? ' <span class="' + gainClass(output.gain, 1) + '">' + signed(output.gain, 2) + "</span>" : "";
  return "<b>" + breakable(output.name) + '</b><span class="numbers">'
    + (known(output.psnr) ? decibels(output.psnr, 2, " dB") + gain : "") + "</span>";
}
function showExample(example) {
  const panel = document.createElement("article");
  panel.className = "panel example";
  const [left, top, side] = example.window, share = (value, whole) => (value / whole * 100).toFixed(3) + "%";
  const frame = '<span class="frame" style="left:' + share(left, example.width) + ";top:" + share(top, example.height)
    + ";width:" + share(side, example.width) + ";height:" + share(side, example.height) + '"></span>';
  const title = example.image + ", " + example.condition;
  const shape = example.height > example.width * 1.1 ? " tall" : "";
  panel.innerHTML = "<h3>" + escaped(example.image) + " <span>" + escaped(example.condition) + "</span></h3>"
    + '<p class="verdict">' + verdict(example) + "</p>"
    + '<div class="bar"><label>Left <select class="pick-before"></select></label>'
    + '<label>Right <select class="pick-after"></select></label></div>'
    + '<div class="stage' + shape + '">' + slider("whole", title, frame) + slider("zoom", title + ", enlarged") + "</div>"
    + '<div class="crops">' + example.outputs.map((one, i) => '<button type="button" data-output="' + i + '"><img alt="'
      + escaped(one.name) + '" src="' + one.crop + '">' + caption(one) + "</button>").join("") + "</div>";
  const pickers = {before: panel.querySelector(".pick-before"), after: panel.querySelector(".pick-after")};
  const at = name => Math.max(0, example.outputs.findIndex(one => one.name === name));
  for (const picker of Object.values(pickers))
    options(picker, example.outputs.map((one, i) => ({title: one.name, value: i})));
  pickers.before.value = at("input");
  pickers.after.value = at(example.worst);
  const show = () => {
    for (const [place, picker] of Object.entries(pickers)) {
      const output = example.outputs[picker.value];
      for (const [kind, source] of [["whole", output.whole], ["zoom", output.crop]]) {
        const image = panel.querySelector("." + kind + " ." + place);
        image.src = source;
        image.alt = title + ": " + output.name;
      }
      for (const tag of panel.querySelectorAll(place === "before" ? ".tag.left" : ".tag.right")) tag.textContent = output.name;
    }
    for (const button of panel.querySelectorAll(".crops button"))
      button.setAttribute("aria-pressed", button.dataset.output === pickers.after.value);
  };
  for (const picker of Object.values(pickers)) picker.addEventListener("change", show);
  for (const button of panel.querySelectorAll(".crops button")) button.addEventListener("click", () => {
    pickers.after.value = button.dataset.output;
    show();
  });
  show();
  makeSliders([...panel.querySelectorAll(".compare")]);
  return panel;
}

// The whole page
options(byId("metric"), used.map(metric => ({title: metrics[metric].title, value: metric})));
options(byId("columns"), views.map((view, i) => ({title: view.title, group: view.group, value: i})), true);
options(byId("speed-track"), restoring.map(track => ({title: track, value: track})));
options(byId("speed-size"), sizes.map(size => ({title: size.replace("x", "×"), value: size})));
if (usualSize) byId("speed-size").value = usualSize;
for (const id of ["sigma-metric", "images-metric"])
  options(byId(id), used.map(metric => ({title: metrics[metric].title, value: metric})));
options(byId("images-condition"), data.conditions.filter(one => data.values[one.name]).map(one => ({title: one.name,
  value: one.name, group: several(conditionsOf(one.track)) ? one.track : ""})), true);
if (data.values["gaussian/1.6"]) byId("images-condition").value = "gaussian/1.6";
options(byId("domains-track"), restoring.filter(track => keysOf(model => model.domains[track]).length > 0)
  .map(track => ({title: track, value: track})));
options(byId("curve"), Object.keys(data.curves).map(name => ({title: name, value: name})));
for (const [id, draw] of [["metric", drawResults], ["columns", drawResults], ["speed-track", drawSpeed],
  ["speed-size", drawSpeed], ["sigma-metric", drawSigma], ["images-condition", drawImages], ["images-metric", drawImages],
  ["domains-track", drawDomains], ["curve", drawCurves]]) byId(id).addEventListener("change", draw);
drawCards();
drawResults();
drawOpinions();
drawHarm();
drawModels();
drawLegend();
byId("examples-section").hidden = !data.examples.length;
byId("examples").append(...data.examples.map(showExample));
drawCharts();
onSchemeChange(drawCharts);
let lastWidth = innerWidth;
addEventListener("resize", () => {
  if ((lastWidth < 700) !== narrow()) drawCharts();
  lastWidth = innerWidth;
});
