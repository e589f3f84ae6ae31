// The charts. All of them show the models whose button is on, in one colour each.
const nameLength = () => narrow() ? 15 : 26;
const brief = name => escaped(shortened(name, nameLength()));
const zeroLine = () => ({zeroline: true, zerolinecolor: colour.soft, zerolinewidth: 1.2});

function drawLegend() {
  byId("legend").innerHTML = contenders.map(model => '<button type="button" aria-pressed="' + !hidden.has(model.name)
    + '" data-name="' + escaped(model.name) + '">' + swatch(model.name) + escaped(model.name) + "</button>").join("");
  byId("legend").hidden = contenders.length < 2;
  for (const button of byId("legend").children) button.addEventListener("click", () => {
    const name = button.dataset.name;
    if (!hidden.delete(name)) hidden.add(name);
    button.setAttribute("aria-pressed", !hidden.has(name));
    drawCharts();
  });
}

// The models to which no other is both quicker and better
function front(points) {
  let best = -Infinity;
  return [...points].sort((a, b) => a.ms - b.ms || b.gain - a.gain).filter(point => {
    const ahead = point.gain > best;
    if (ahead) best = point.gain;
    return ahead;
  });
}
function logTicks(low, high) {
  const ticks = [], wide = high / low > 300;
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++)
    for (const digit of wide ? [1] : [1, 2, 5]) {
      const value = digit * 10 ** power;
      if (value >= low && value <= high) ticks.push(value);
    }
  return {tickvals: ticks, ticktext: ticks.map(value => value.toLocaleString("en", {maximumSignificantDigits: 1}))};
}
// Beside its dot where there is room; otherwise the label that collides least
function placeLabels(points, best, toX, toY, width) {
  const taken = points.map(point => ({x: toX(point), y: toY(point), w: 14, h: 14}));
  const overlap = (a, b) => Math.max(0, (a.w + b.w) / 2 - Math.abs(a.x - b.x)) * Math.max(0, (a.h + b.h) / 2 - Math.abs(a.y - b.y));
  return points.map((point, i) => {
    const w = 6.7 * Math.min(point.name.length, nameLength()) + 4, h = 15, x = toX(point), y = toY(point);
    const places = [["top center", x, y - 16], ["bottom center", x, y + 16], ["middle right", x + w / 2 + 11, y],
      ["middle left", x - w / 2 - 11, y], ["top right", x + w / 2 + 6, y - 14], ["top left", x - w / 2 - 6, y - 14],
      ["bottom right", x + w / 2 + 6, y + 14], ["bottom left", x - w / 2 - 6, y + 14]];
    const costs = places.map(([place, cx, cy]) => {
      // there the front goes on
      const struck = place === "middle right" && best.includes(points[i]) ? 200 : 0;
      const box = {x: cx, y: cy, w, h};
      const outside = Math.max(0, cx + w / 2 - width) + Math.max(0, w / 2 - cx);
      return taken.reduce((sum, other, j) => sum + (j === i ? 0 : overlap(box, other)), 0) + outside * 40 + struck;
    });
    const chosen = costs.indexOf(Math.min(...costs));
    taken.push({x: places[chosen][1], y: places[chosen][2], w, h});
    return places[chosen][0];
  });
}
function drawSpeed() {
  const track = byId("speed-track").value, size = byId("speed-size").value;
  byId("speed-section").hidden = !sizes.length || !restoring.length;
  if (byId("speed-section").hidden) return;
  const points = shownModels().map(model => ({name: model.name, model, gain: figuresOf(model, track).gain_psnr,
    time: timeOf(model, size)})).filter(point => known(point.gain) && point.time)
    .map(point => ({...point, ms: point.time.ms}));
  const best = front(points.filter(point => !point.model.told));
  const times = points.map(point => point.ms), gains = [0, ...points.map(point => point.gain)];
  const low = times.length ? Math.min(...times) / 2.2 : 1, high = times.length ? Math.max(...times) * 2.2 : 1000;
  const spread = Math.max(...gains) - Math.min(...gains) || 1;
  const floor = Math.min(...gains) - spread * .12, roof = Math.max(...gains) + spread * .14;
  const box = byId("speed"), width = box.clientWidth - 84, height = box.clientHeight - 70;
  const toX = point => (Math.log10(point.ms) - Math.log10(low)) / Math.log10(high / low) * width;
  const toY = point => (roof - point.gain) / (roof - floor) * height;
  const traces = [];
  if (best.length) {
    const last = best[best.length - 1];
    traces.push({x: [...best.map(point => point.ms), high], y: [...best.map(point => point.gain), last.gain], mode: "lines",
      line: {color: colour.accent, width: 1.6, shape: "hv", dash: "dot"}, hoverinfo: "skip", name: "front"});
  }
  const look = points.map(point => looks.get(point.name));
  traces.push({x: times, y: points.map(point => point.gain), mode: "markers+text", name: "models",
    text: points.map(point => brief(point.name)), textposition: placeLabels(points, best, toX, toY, width),
    textfont: {size: 12, color: points.map(point => best.includes(point) ? colour.ink : colour.soft)},
    marker: {size: look.map(one => one.size + 2), color: look.map(one => one.colour), symbol: look.map(one => one.symbol),
      line: {width: 1.4, color: look.map(one => one.symbol.endsWith("open") ? one.colour : colour.panel)}},
    customdata: points.map(point => [escaped(point.name), milliseconds(point.ms), signed(point.gain, 2),
      [...ratios(point.time).map(escaped), known(point.model.facts.parameters) ? fixed(point.model.facts.parameters, 0)
        + " parameters" : "", point.model.told ? toldWhat : ""].filter(Boolean).join("<br>")]),
    hovertemplate: "<b>%{customdata[0]}</b><br>%{customdata[2]} dB in %{customdata[1]} ms<br>%{customdata[3]}<extra></extra>"});
  const title = size.replace("x", "×");
  Plotly.react("speed", traces, layout({xaxis: axis("ms per " + title + " frame, logarithmic", {type: "log",
    range: [Math.log10(low), Math.log10(high)], ...logTicks(low, high)}),
  yaxis: axis("gain in PSNR on " + track + " (dB)", {range: [floor, roof], ...zeroLine()})}), config);
  byId("speed-hint").textContent = "Up and to the left is better. The dotted line is the Pareto front: no other model is both faster "
    + "and better; those that are told the blur or the sharp image do not count. " + machineText();
}

function drawSigma() {
  const list = conditionsOf("gaussian").filter(one => known(one.number)), metric = byId("sigma-metric").value;
  byId("sigma-section").hidden = list.length < 2 || !contenders.length;
  if (byId("sigma-section").hidden) return;
  const {digits, title, unit} = metrics[metric];
  const traces = shownModels().map(model => {
    const look = looks.get(model.name), at = list.filter(one => known((model.conditions[one.name] || {})["gain_" + metric]));
    const figures = at.map(one => model.conditions[one.name]);
    return {x: at.map(one => one.number), y: figures.map(one => one["gain_" + metric]), mode: "lines+markers",
      name: brief(model.name), line: {color: look.colour, dash: look.dash, width: look.width},
      marker: {symbol: look.symbol, size: 8}, customdata: figures.map(one => [signed(one["gain_" + metric], digits),
        fixed(one[metric], digits)]),
      hovertemplate: "<b>" + brief(model.name) + "</b> at σ %{x}<br>%{customdata[0]}" + unit
        + " to %{customdata[1]}" + unit + "<extra></extra>"};
  });
  Plotly.react("sigma", traces, layout({xaxis: axis("σ of the blur (pixels)", {tickvals: list.map(one => one.number)}),
    yaxis: axis("gain in " + title + unit.replace(/ (.+)/, " ($1)"), zeroLine())}), config);
}

function drawImages() {
  const condition = data.conditions.find(one => one.name === byId("images-condition").value);
  const metric = byId("images-metric").value, {digits, title, unit} = metrics[metric];
  byId("images-section").hidden = !Object.keys(data.values).length;
  if (!condition || byId("images-section").hidden) return;
  const table = (data.values[condition.name] || {})[metric] || {};
  const list = shownModels().filter(model => table[model.name]);
  const traces = [...list].reverse().map(model => {
    const look = looks.get(model.name), {at, value} = table[model.name];
    return {type: "box", orientation: "h", x: value, y: value.map(() => brief(model.name)), boxpoints: "all", jitter: .5,
      pointpos: 0, name: brief(model.name), line: {color: look.colour, width: 1.4}, fillcolor: look.colour + "22",
      marker: {size: 4.5, color: look.colour, opacity: .55}, hoveron: "points", text: at.map(i => escaped(data.images[i])),
      customdata: value.map(one => condition.track !== "sharp" ? signed(one, digits) + unit
        : metric === "psnr" ? decibels(one, digits, unit) : fixed(one, digits)),
      hovertemplate: "<b>%{text}</b><br>" + brief(model.name) + " %{customdata}<extra></extra>"};
  });
  byId("images").style.height = 76 + 46 * Math.max(1, list.length) + "px";
  const what = condition.track === "sharp" ? title + " to the input" : "gain in " + title;
  Plotly.react("images", traces, layout({xaxis: axis(what + unit.replace(/ (.+)/, " ($1)"),
    condition.track === "sharp" ? {zeroline: false} : zeroLine()), yaxis: axis("", {type: "category", gridcolor: colour.panel}),
  margin: {l: 20, r: 16, t: 10, b: 44}}), config);
  Plotly.Plots.resize("images");
}

function drawDomains() {
  const track = byId("domains-track").value;
  byId("domains-section").hidden = !byId("domains-track").options.length;
  if (byId("domains-section").hidden) return;
  const count = domain => Math.max(...models.map(model => ((model.domains[track] || {})[domain] || {}).images || 0));
  const domains = keysOf(model => model.domains[track]).sort((a, b) => count(a) - count(b));
  const named = domain => escaped(domain) + " (" + count(domain) + ")";
  const traces = shownModels().filter(model => model.domains[track]).map(model => {
    const look = looks.get(model.name);
    const at = domains.filter(domain => known((model.domains[track][domain] || {}).gain_psnr));
    const gains = at.map(domain => model.domains[track][domain].gain_psnr);
    return {x: gains, y: at.map(named), mode: "markers", name: brief(model.name),
      marker: {color: look.colour, symbol: look.symbol, size: look.size + 2, opacity: .95, line: {width: 1.2,
        color: look.symbol.endsWith("open") ? look.colour : colour.panel}}, customdata: gains.map(one => signed(one, 2)),
      hovertemplate: "<b>" + brief(model.name) + "</b><br>%{y}: %{customdata} dB<extra></extra>"};
  });
  byId("domains").style.height = 80 + 52 * Math.max(1, domains.length) + "px";
  Plotly.react("domains", traces, layout({xaxis: axis("gain in PSNR on " + track + " (dB)", zeroLine()),
    yaxis: axis("", {type: "category", categoryorder: "array", categoryarray: domains.map(named)}),
    margin: {l: 20, r: 16, t: 10, b: 44}}), config);
  Plotly.Plots.resize("domains");
}

function drawEdges() {
  byId("edges-section").hidden = !Object.keys(data.edges).length;
  if (byId("edges-section").hidden) return;
  for (const [id, field, title, digits] of [["overshoot", "overshoot", "overshoot (grey levels)", 1],
    ["acutance", "acutance_gain", "acutance gain", 2]]) {
    const list = shownModels().filter(model => data.edges[model.name]);
    const traces = list.map(model => {
      const look = looks.get(model.name), scores = data.edges[model.name].filter(one => known(one[field]));
      return {x: scores.map(one => one.sigma), y: scores.map(one => one[field]), mode: "lines+markers", name: brief(model.name),
        line: {color: look.colour, dash: look.dash, width: look.width}, marker: {symbol: look.symbol, size: 8},
        customdata: scores.map(one => [fixed(one[field], digits), fixed(one.width_before, 2), fixed(one.width_after, 2)]),
        hovertemplate: "<b>" + brief(model.name) + "</b> at σ %{x}<br>" + title + " %{customdata[0]}<br>edge %{customdata[1]} → "
          + "%{customdata[2]} pixels<extra></extra>"};
    });
    const all = [...new Set(Object.values(data.edges).flatMap(scores => scores.map(one => one.sigma)))].sort((a, b) => a - b);
    Plotly.react(id, traces, layout({xaxis: axis("σ of the blur (pixels)", all.length < 9 ? {tickvals: all} : {}),
      yaxis: axis(title, {rangemode: field === "overshoot" ? "tozero" : "normal"})}), config);
  }
}

function drawCurves() {
  const picker = byId("curve");
  byId("curves-section").hidden = !picker.options.length;
  if (!picker.options.length) return;
  const traces = data.curves[picker.value].map((one, i) => {
    const look = looks.get(one.name), scheme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    return {x: one.x, y: one.y, name: brief(one.name), mode: one.x.length < 40 ? "lines+markers" : "lines", marker: {size: 5},
      line: {color: look ? look.colour : strong[scheme][i % 10], width: 2}, showlegend: true,
      hovertemplate: "<b>" + brief(one.name) + "</b><br>%{y:.5~g} at step %{x:,}<extra></extra>"};
  });
  Plotly.react("curves", traces, layout({xaxis: axis("step"), yaxis: axis(picker.value), showlegend: true,
    legend: {orientation: "h", y: 1.02, yanchor: "bottom", x: 0}, margin: {l: 56, r: 16, t: 40, b: 44}}), config);
}

function drawCharts() {
  readColours();
  readLooks();
  drawSpeed();
  drawSigma();
  drawImages();
  drawDomains();
  drawEdges();
  drawCurves();
}
