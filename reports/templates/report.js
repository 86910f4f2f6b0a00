const figures = JSON.parse(document.getElementById("figures").textContent);

// Colours are named by CSS variable in the figures, so that one record serves both themes.
function resolved(value, style) {
  if (typeof value === "string") return value.startsWith("--") ? style.getPropertyValue(value).trim() : value;
  if (Array.isArray(value)) return value.map((item) => resolved(item, style));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolved(item, style)]));
}

function furnished(figure, narrow) {
  const axis = { gridcolor: "--rule", linecolor: "--rule", zeroline: false, tickfont: { color: "--soft" }, fixedrange: true };
  const xaxis = { showgrid: false, ...axis, ...figure.layout.xaxis };
  const yaxis = { ...axis, ...figure.layout.yaxis };
  return {
    ...figure.layout,
    xaxis: { ...xaxis, title: { ...xaxis.title, font: { size: 13, color: "--soft" } } },
    yaxis: { ...yaxis, title: { ...yaxis.title, font: { size: 13, color: "--soft" } } },
    height: figure.height,
    margin: { l: 52, r: 12, b: 48, ...figure.layout.margin },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 13, color: "--ink" },
    showlegend: false,
    hoverlabel: { bgcolor: "--ground", bordercolor: "--faint", font: { color: "--ink" }, align: "left" },
    hovermode: "closest",
    dragmode: false,
  };
}

// A phone has room for the two labels that matter, and for numbers inside marks; taps tell the others.
function labelled(trace, narrow) {
  const kept = (word) => (/^(chosen|default|\d+$)/.test(word) ? word : "");
  return narrow && trace.mode === "markers+text" ? { ...trace, text: trace.text.map(kept) } : trace;
}

function draw() {
  const style = getComputedStyle(document.documentElement);
  const narrow = window.innerWidth < 640;
  for (const [name, figure] of Object.entries(figures)) {
    const layout = resolved(furnished(figure, narrow), style);
    const data = figure.data.map((trace) => labelled(trace, narrow));
    Plotly.react(name, resolved(data, style), layout, { responsive: true, displayModeBar: false });
  }
}

draw();
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
