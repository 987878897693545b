// Charts in the page's colours, and those of a column's diagnostics.

const touch = matchMedia("(pointer: coarse)").matches;
const HINT = $("reading").textContent; // how to read values, until one has

function colours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["ink", "quiet", "line", "panel", "before", "after", "truth"];
  return Object.fromEntries(names.map(n => [n, style.getPropertyValue(`--${n}`).trim()]));
}

// A figure in the page's colours. No text of the user's gets into it: BokehJS reads some of it
// as mathematics.
function chart(colour, options) {
  const font = "system-ui, sans-serif";
  const figure = new Bokeh.Plotting.Figure({
    sizing_mode: "stretch_width",
    background_fill_color: null,
    border_fill_color: null,
    outline_line_color: null,
    min_border_left: 62,
    min_border_right: 8,
    output_backend: "canvas",
    tools: [],
    toolbar_location: null,
    ...options,
  });
  figure.toolbar.logo = null;
  // Two fingers drawn apart count as a few turns of the wheel: too few for a telephone.
  for (const tool of figure.toolbar.tools) if (touch && tool.speed) tool.speed *= 6;
  for (const axis of figure.axes) {
    axis.setv({
      axis_label_text_color: colour.ink,
      axis_label_text_font: font,
      axis_label_text_font_size: "12px",
      axis_label_text_font_style: "normal",
      axis_line_color: colour.line,
      major_label_text_color: colour.ink,
      major_label_text_font: font,
      major_tick_line_color: colour.line,
      minor_tick_line_color: null,
    });
    if ("power_limit_high" in axis.formatter) axis.formatter.power_limit_high = 7;
  }
  for (const axis of figure.xaxes) axis.ticker.desired_num_ticks = width() < 600 ? 4 : 6;
  for (const grid of figure.grids) grid.grid_line_color = colour.line;
  return figure;
}

// About the pixels that a chart has for its data.
const width = () => Math.max($("charts").clientWidth - 70, 200);

const field = name => ({ field: name });
const ring = (size, color) => ({ size, fill_color: null, line_color: color, line_width: 2 });
const flat = (location, color, dash = []) =>
  new Bokeh.Span({ dimension: "width", location, line_color: color, line_dash: dash });

function fitted(range, lists) {
  let [low, high] = [Infinity, -Infinity];
  for (const list of lists) {
    for (const value of list) {
      if (!known(value)) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  if (low > high) [low, high] = [0, 1];
  const room = (high - low) * 0.06 || Math.abs(high) * 0.01 || 1;
  range.setv({ start: low - room, end: high + room });
}

function diagnostics(data) {
  const colour = colours();
  const column = data.columns[Number($("column").value)];
  $("caption").textContent = `${$("column").selectedOptions[0].text}: ${column.caption}`;
  const y = () => new Bokeh.Range1d();
  const shown = [];

  const edges = numbers(column.edges, Float64Array);
  const [before, after] = [numbers(column.before), numbers(column.after)];
  const spread = chart(colour, {
    x_range: new Bokeh.Range1d({ start: edges[0], end: edges[edges.length - 1] }),
    y_range: y(), x_axis_label: "value", y_axis_label: "count", height: 220,
  });
  const bins = new Bokeh.ColumnDataSource({
    data: { left: edges.slice(0, -1), right: edges.slice(1), before },
  });
  spread.quad(field("left"), field("right"), 0, field("before"), {
    source: bins, fill_color: colour.before, fill_alpha: 0.55, line_color: null,
  });
  const outline = new Bokeh.ColumnDataSource({
    data: { x: edges, y: joined([after, after.slice(-1)]) },
  });
  spread.step({
    x: field("x"), y: field("y"), mode: "after", source: outline,
    line_color: colour.after, line_width: 1.6,
  });
  fitted(spread.y_range, [before, after, [0]]);
  shown.push(["distribution", spread]);

  if (column.when) {
    const when = numbers(column.when, Float64Array);
    const [mean, typical] = [numbers(column.mean), numbers(column.typical)];
    const course = chart(colour, {
      x_range: new Bokeh.Range1d({ start: when[0], end: when[when.length - 1] }),
      x_axis_type: data.series.clock === "time" ? "datetime" : "linear",
      y_range: y(), y_axis_label: "change (σ)", height: 220,
    });
    const source = new Bokeh.ColumnDataSource({
      data: { when, mean, typical: typical.map(v => v || 0), zero: when.map(() => 0) },
    });
    course.varea(field("when"), field("zero"), field("typical"), {
      source, fill_color: colour.before, fill_alpha: 0.35,
    });
    course.line(field("when"), field("mean"), {
      source, line_color: colour.after, line_width: 1.6,
    });
    course.add_layout(flat(0, colour.before));
    fitted(course.y_range, [mean, typical, [0]]);
    shown.push(["course", course]);

    const [first, second] = [numbers(column.lags_before), numbers(column.lags_after)];
    const lag = Float64Array.from(first, (_, i) => i + 1);
    const lags = chart(colour, {
      x_range: new Bokeh.Range1d({ start: 0.4, end: lag.length + 0.6 }),
      y_range: y(), x_axis_label: "lag (rows)", y_axis_label: "autocorrelation", height: 220,
    });
    for (const [top, side, name] of [[first, -0.2, "before"], [second, 0.2, "after"]]) {
      const source = new Bokeh.ColumnDataSource({ data: { x: lag.map(l => l + side), top } });
      lags.vbar(field("x"), 0.4, field("top"), 0, {
        source, fill_color: colour[name], line_color: null,
      });
    }
    for (const bound of [-column.bound, column.bound]) {
      lags.add_layout(flat(bound, colour.quiet, [4, 3]));
    }
    lags.add_layout(flat(0, colour.before));
    fitted(lags.y_range, [first, second, [0, column.bound, -column.bound]]);
    shown.push(["lags", lags]);
  }
  return Promise.all(
    shown.map(([name, figure]) => {
      $(name).replaceChildren();
      return Bokeh.Plotting.show(figure, `#${name}`);
    }),
  );
}
