// The explorer of a series: one column (of one group) over time.

function seriesExplorer(data) {
  const clock = data.series.clock;
  const view = { start: 0, end: 1 };
  let series, full, charts, drawn;

  function pick() {
    const group = data.series.groups[Number($("group")?.value ?? 0)];
    const track = group.tracks[Number($("column").value)];
    const before = full;
    series = seriesOf(group, track);
    series.busiest = track.busiest;
    series.count = group.rows;
    const [start, end] = [series.x[0], series.end[series.end.length - 1]];
    const room = (end - start) * 0.01 || (clock === "time" ? 36e5 : 1);
    full = { start: start - room, end: end + room };
    // Another column of the same rows is seen where one was looking.
    const same = before && before.start === full.start && before.end === full.end;
    if (!same) Object.assign(view, full);
  }

  function build() {
    const colour = colours();
    const source = new Bokeh.ColumnDataSource({
      name: "entries", data: summarised(series, 0, 0, 1, 0),
    });
    const hover = new Bokeh.ColumnDataSource({ data: { x: [], before: [], after: [] } });
    const gaps = new Bokeh.ColumnDataSource({ data: {} });
    const whole = new Bokeh.ColumnDataSource({ data: {} });
    const range = new Bokeh.Range1d({ ...view });
    const common = { x_range: range, x_axis_type: clock === "time" ? "datetime" : "linear" };
    const y = () => new Bokeh.Range1d();
    // Where no tool takes a drag, a finger on the chart scrolls the page, and two fingers zoom.
    const values = chart(colour, {
      ...common,
      y_range: y(),
      y_axis_label: "value",
      height: 320,
      tools: "xbox_zoom,xwheel_zoom",
      active_drag: touch ? null : "xbox_zoom",
      active_scroll: "xwheel_zoom",
    });
    const lower = label =>
      chart(colour, { ...common, y_range: y(), y_axis_label: label, height: 160 });
    const [change, residual] = [lower("change (σ)"), lower("residual")];
    const overview = chart(colour, {
      x_range: new Bokeh.Range1d({ ...full }),
      y_range: y(),
      x_axis_type: common.x_axis_type,
      height: 90,
    });
    overview.yaxis.visible = false;
    overview.grid.visible = false;
    const picker = new Bokeh.RangeTool({ x_range: range });
    picker.overlay.setv({ fill_color: colour.after, fill_alpha: 0.15, line_color: colour.after });
    overview.add_tools(picker);

    const band = (figure, from, low, high, color) =>
      figure.varea(field("x"), field(low), field(high), {
        source: from, fill_color: color, fill_alpha: 0.28,
      });
    const line = (figure, from, name, color, width) =>
      figure.line(field("x"), field(name), { source: from, line_color: color, line_width: width });
    const points = (figure, name, options) =>
      figure.scatter(field("x"), field(name), { source, size: 5, line_color: null, ...options });

    for (const figure of [values, change, residual, overview]) {
      figure.vstrip(field("after"), field("before"), {
        source: gaps, fill_color: colour.line, fill_alpha: 0.6, line_color: colour.line,
      });
    }
    for (const [figure, first, second] of [
      [values, "before", "after"],
      [residual, "residual_before", "residual_after"],
    ]) {
      band(figure, source, `${first}_low`, `${first}_high`, colour.before);
      band(figure, source, `${second}_low`, `${second}_high`, colour.after);
      line(figure, source, first, colour.before, 1.2);
      line(figure, source, second, colour.after, 1.6);
    }
    points(values, "before_dots", { fill_color: colour.before });
    points(values, "after_dots", { fill_color: colour.after });
    points(values, "filled", ring(8, colour.truth));
    change.add_layout(flat(0, colour.before));
    residual.add_layout(flat(0, colour.before));
    band(change, source, "change_low", "change_high", colour.after);
    line(change, source, "change", colour.after, 1.2);
    points(change, "change_dots", { fill_color: colour.after });
    band(overview, whole, "before_low", "before_high", colour.before);
    line(overview, whole, "before", colour.before, 1);
    line(overview, whole, "after", colour.after, 1);
    for (const name of ["before", "after"]) {
      values.scatter(field("x"), field(name), { source: hover, ...ring(9, colour[name]) });
    }
    const crosshairs = [values, change, residual].map(figure => {
      const span = new Bokeh.Span({ dimension: "height", location: NaN, line_color: colour.quiet });
      figure.add_layout(span);
      figure.on_event("mousemove", event => read(event.x));
      figure.on_event("tap", event => read(event.x));
      figure.on_event("doubletap", () => look(full.start, full.end));
      return span;
    });
    range.on_change([range.properties.start, range.properties.end], later);
    charts = {
      values, change, residual, overview, source, hover, gaps, whole, range, crosshairs,
    };
    fill();
    const layout = new Bokeh.Column({
      children: [values, change, residual, overview], sizing_mode: "stretch_width",
    });
    $("charts").replaceChildren();
    return Bokeh.Plotting.show(layout, "#charts");
  }

  // What does not depend on the view.
  function fill() {
    const step = Math.ceil(series.x.length / 400);
    const pixel = (full.end - full.start) / 400;
    charts.whole.data = summarised(series, 0, series.x.length, step, pixel);
    charts.gaps.data = series.gaps;
    charts.overview.x_range.setv({ ...full });
    const { before_low, before_high, after } = charts.whole.data;
    fitted(charts.overview.y_range, [before_low, before_high, after]);
    charts.range.setv({
      bounds: [full.start, full.end],
      min_interval: (full.end - full.start) / Math.max(series.count, 4) * 2,
      ...view,
    });
    draw();
  }

  let waiting = false;
  function later() {
    Object.assign(view, { start: charts.range.start, end: charts.range.end });
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  }

  function draw() {
    const first = placeOf(series.end, view.start);
    let last = placeOf(series.x, view.end);
    if (series.x[last] === view.end) last += 1;
    // One more on each side, so that lines leave the frame.
    const [from, to] = [Math.max(first - 1, 0), Math.min(last + 1, series.x.length)];
    const room = width();
    const step = Math.max(Math.ceil((last - first) / room), 1);
    drawn = summarised(series, from, to, step, (view.end - view.start) / room);
    for (const name of ["before", "after", "change"]) {
      drawn[`${name}_dots`] = dots(drawn[name], room);
    }
    charts.source.data = drawn;
    const spans = (...names) => names.flatMap(n => [drawn[`${n}_low`], drawn[`${n}_high`]]);
    fitted(charts.values.y_range, spans("before", "after"));
    fitted(charts.change.y_range, [...spans("change"), [0]]);
    fitted(charts.residual.y_range, [...spans("residual_before", "residual_after"), [0]]);
    tell(first, last, step);
  }

  function tell(first, last, step) {
    let rows = 0;
    for (let i = first; i < last; i++) rows += series.rows[i];
    const entries = Math.ceil((last - first) / step);
    const where = rows
      ? `${moment(series.x[first], clock)} to ${moment(series.end[last - 1], clock)}`
      : "nothing here";
    const how =
      rows === entries
        ? "each drawn"
        : `drawn as ${count(entries)} points of about ${count(Math.round(rows / entries))} rows: ` +
          `a line through their means, a band from the lowest to the highest. ` +
          (step > 1 ? "Zoom in for more detail" : "This page holds no more detail here");
    $("range").textContent = rows ? `${where}: ${count(rows)} rows, ${how}.` : `${where}.`;
  }

  // What is drawn nearest to a moment, in words and marked.
  function read(x) {
    let nearest = -1;
    for (let i = 0; i < drawn.x.length; i++) {
      if (!drawn.rows[i]) continue; // a gap
      const distance = Math.abs(drawn.x[i] - x);
      if (distance < (nearest < 0 ? Infinity : Math.abs(drawn.x[nearest] - x))) nearest = i;
    }
    if (nearest < 0) return;
    const at = name => drawn[name][nearest];
    const rows = at("rows");
    const when =
      rows > 1
        ? `${moment(at("from"), clock)} to ${moment(at("to"), clock)} (${count(rows)} rows)`
        : moment(at("x"), clock);
    const span = (name, words) => {
      const range = rows > 1 && known(at(name));
      const [low, high] = [words(at(`${name}_low`)), words(at(`${name}_high`))];
      return words(at(name)) + (range ? ` (${low} to ${high})` : "");
    };
    const filled = known(at("filled")) ? ", filled" : "";
    $("reading").textContent =
      `${when}: before ${span("before", short)}, after ${span("after", short)}${filled}, ` +
      `change ${span("change", sigma)}, residual ` +
      `${span("residual_before", short)} before, ${span("residual_after", short)} after`;
    for (const span of charts.crosshairs) span.location = at("x");
    charts.hover.data = { x: [at("x")], before: [at("before")], after: [at("after")] };
  }

  function look(start, end) {
    const width = Math.min(end - start, full.end - full.start);
    const from = Math.min(Math.max(start, full.start), full.end - width);
    charts.range.setv({ start: from, end: from + width });
  }

  const around = factor => () => {
    const middle = (view.start + view.end) / 2;
    const half = Math.max((view.end - view.start) / 2 * factor, charts.range.min_interval / 2);
    look(middle - half, middle + half);
  };
  const beside = share => () => {
    const way = (view.end - view.start) * share;
    look(view.start + way, view.end + way);
  };
  const moves = {
    whole: () => look(full.start, full.end),
    busiest: () => {
      const [start, end] = series.busiest;
      const room = (end - start) * 0.05 || (full.end - full.start) * 0.01;
      look(start - room, end + room);
    },
    closer: around(0.5),
    wider: around(2),
    earlier: beside(-0.5),
    later: beside(0.5),
  };
  for (const [name, move] of Object.entries(moves)) {
    $(`go-${name}`).addEventListener("click", move);
  }

  pick();
  return {
    build,
    choose() {
      pick();
      $("reading").textContent = HINT;
      fill();
    },
  };
}
