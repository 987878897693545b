// The explorer of a table: rows of one column by value, change and residual.

function tableExplorer(data) {
  const { names, rows } = data.table;
  let signals, charts;

  function pick() {
    signals = signalsOf(data.table.tracks[Number($("column").value)], names.length);
  }

  function build() {
    const colour = colours();
    const source = new Bokeh.ColumnDataSource({ name: "points", data: {} });
    const hover = new Bokeh.ColumnDataSource({ data: {} });
    const figure = (x, y) =>
      chart(colour, {
        x_range: new Bokeh.Range1d(),
        y_range: new Bokeh.Range1d(),
        x_axis_label: x,
        y_axis_label: y,
        height: 320,
        tools: "box_zoom,wheel_zoom",
        active_drag: touch ? null : "box_zoom",
        active_scroll: "wheel_zoom",
      });
    const change = figure("value before", "change (σ)");
    const residual = figure("residual before", "residual after");
    change.add_layout(flat(0, colour.before));
    residual.add_layout(
      new Bokeh.Slope({ gradient: 1, y_intercept: 0, line_color: colour.before }),
    );
    for (const [plot, x, y] of [
      [change, "at", "change"],
      [residual, "residual_before", "residual_after"],
    ]) {
      plot.scatter(field(x), field(y), {
        source, size: 5, line_color: null, fill_color: colour.after, fill_alpha: 0.45,
      });
      plot.scatter(field(x), field(y), { source: hover, ...ring(11, colour.ink) });
      for (const event of ["mousemove", "tap"]) plot.on_event(event, e => read(plot, x, y, e));
      plot.on_event("doubletap", whole);
    }
    change.scatter(field("at"), field("filled"), { source, ...ring(8, colour.truth) });
    charts = { change, residual, source, hover };
    fill();
    $("charts").replaceChildren();
    return Bokeh.Plotting.show(
      new (width() < 700 ? Bokeh.Column : Bokeh.Row)({
        children: [change, residual], sizing_mode: "stretch_width",
      }),
      "#charts",
    );
  }

  function whole() {
    const { at, change, residual_before, residual_after } = charts.source.data;
    fitted(charts.change.x_range, [at]);
    fitted(charts.change.y_range, [change, [0]]);
    fitted(charts.residual.x_range, [residual_before, [0]]);
    fitted(charts.residual.y_range, [residual_after, [0]]);
  }

  function fill() {
    const mean = name => signals[name].mean;
    const filled = signals.filled?.mean ?? [];
    charts.source.data = {
      // A cell that was missing has no value before: it stands where it was put.
      at: mean("before").map((value, i) => (known(value) ? value : mean("after")[i])),
      change: mean("change"),
      residual_before: mean("residual_before"),
      residual_after: mean("residual_after"),
      filled: Float64Array.from(names, (_, i) => (filled[i] > 0 ? 0 : NaN)),
    };
    charts.hover.data = { at: [], change: [], residual_before: [], residual_after: [] };
    whole();
    const some = names.length < rows
      ? `${count(names.length)} of ${count(rows)} rows, each drawn: half of them the most ` +
        `changed of any column, half evenly picked.`
      : `${count(rows)} rows, each drawn.`;
    $("range").textContent = some;
  }

  // The row nearest to the pointer, in parts of the frame.
  function read(plot, x, y, event) {
    const all = charts.source.data;
    const width = plot.x_range.end - plot.x_range.start;
    const height = plot.y_range.end - plot.y_range.start;
    let [nearest, least] = [-1, Infinity];
    for (let i = 0; i < names.length; i++) {
      const [across, up] = [(all[x][i] - event.x) / width, (all[y][i] - event.y) / height];
      const distance = Math.hypot(across, up);
      if (distance < least) [nearest, least] = [i, distance];
    }
    if (nearest < 0) return;
    const at = name => signals[name].mean[nearest];
    const filled = signals.filled?.mean[nearest] > 0 ? ", filled" : "";
    $("reading").textContent =
      `row ${names[nearest]}: before ${short(at("before"))}, ` +
      `after ${short(at("after"))}${filled}, change ${sigma(at("change"))}, residual ` +
      `${short(at("residual_before"))} before, ${short(at("residual_after"))} after`;
    charts.hover.data = Object.fromEntries(
      Object.entries(all).map(([name, list]) => [name, [list[nearest]]]),
    );
  }

  $("go-whole").addEventListener("click", whole);
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
