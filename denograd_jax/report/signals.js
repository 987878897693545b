// What the page holds of a column: signals, decoded and summarised, and their values in words.
//
// A series comes in pieces, of single rows or of buckets of rows (mean, low, high, number of
// rows); `_explorer.py` says why. What is in view is summarised once more, to an entry per pixel,
// whenever the view changes: so a zoom shows more, and drawing stays fast.

const SIGNALS = ["before", "after", "change", "residual_before", "residual_after"];
const PIXELS_PER_DOT = 7; // more of them would only thicken the line

const $ = id => document.getElementById(id);
const known = value => Number.isFinite(value);

const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
const numbers = (text, Kind = Float32Array) => new Kind(bytes(text).buffer);

function joined(parts, Kind = Float64Array) {
  const whole = new Kind(parts.reduce((sum, part) => sum + part.length, 0));
  let start = 0;
  for (const part of parts) {
    whole.set(part, start);
    start += part.length;
  }
  return whole;
}

// First place in an ascending list whose value is not less.
function placeOf(list, value) {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

// The mean, lowest and highest value of each entry; for single rows all three are the row's.
function signalOf(pieces, length, offset) {
  if (!pieces) {
    const nothing = new Float64Array(length).fill(NaN);
    return { mean: nothing, low: nothing, high: nothing };
  }
  const part = name =>
    joined(pieces.map(piece => numbers(piece[name] ?? piece.mean))).map(v => v + offset);
  return { mean: part("mean"), low: part("low"), high: part("high") };
}

function signalsOf(track, length) {
  const signals = {};
  for (const name of SIGNALS) {
    const offset = name === "before" || name === "after" ? track.offset : 0;
    signals[name] = signalOf(track[name], length, offset);
  }
  if (track.filled) signals.filled = signalOf(track.filled, length, 0);
  return signals;
}

function seriesOf(group, track) {
  const x = group.pieces.map(piece => numbers(piece.x, Float64Array));
  const end = group.pieces.map((p, i) => (p.end ? numbers(p.end, Float64Array) : x[i]));
  const rows = group.pieces.map((p, i) =>
    p.rows ? numbers(p.rows, Uint32Array) : new Uint32Array(x[i].length).fill(1),
  );
  const gaps = numbers(group.gaps, Float64Array);
  const series = { x: joined(x), end: joined(end), rows: joined(rows, Uint32Array) };
  series.gaps = {
    after: gaps.filter((_, i) => i % 2 === 0),
    before: gaps.filter((_, i) => i % 2 === 1),
  };
  series.followsGap = new Uint8Array(series.x.length);
  for (const moment of series.gaps.before) series.followsGap[placeOf(series.x, moment)] = 1;
  return Object.assign(series, signalsOf(track, series.x.length));
}

// Entries from `first` up to `last`, `step` of them in one. At gaps wider than `pixel` no entry
// reaches across, and missing values at both ends break the line.
function summarised(series, first, last, step, pixel) {
  const drawn = { x: [], from: [], to: [], rows: [], filled: [] };
  for (const name of SIGNALS) {
    for (const part of [name, `${name}_low`, `${name}_high`]) drawn[part] = [];
  }
  const breakLine = moments => {
    for (const moment of moments) {
      for (const list of Object.values(drawn)) list.push(NaN);
      drawn.x[drawn.x.length - 1] = moment;
    }
  };
  const followsGap = i => series.followsGap[i] && series.x[i] - series.end[i - 1] > pixel;
  let stop = first;
  while (stop < last) {
    const start = stop;
    if (start > first && followsGap(start)) breakLine([series.end[start - 1], series.x[start]]);
    for (stop = start + 1; stop < Math.min(start + step, last) && !followsGap(stop); stop++);
    const from = series.x[start];
    const to = series.end[stop - 1];
    let rows = 0;
    for (let i = start; i < stop; i++) rows += series.rows[i];
    drawn.x.push((from + to) / 2);
    drawn.from.push(from);
    drawn.to.push(to);
    drawn.rows.push(rows);
    for (const name of SIGNALS) {
      const { mean, low, high } = series[name];
      let [sum, weight, lowest, highest] = [0, 0, Infinity, -Infinity];
      for (let i = start; i < stop; i++) {
        if (!Number.isFinite(mean[i])) continue;
        sum += mean[i] * series.rows[i];
        weight += series.rows[i];
        lowest = Math.min(lowest, low[i]);
        highest = Math.max(highest, high[i]);
      }
      drawn[name].push(weight ? sum / weight : NaN);
      drawn[`${name}_low`].push(weight ? lowest : NaN);
      drawn[`${name}_high`].push(weight ? highest : NaN);
    }
    let filled = false;
    if (series.filled) for (let i = start; i < stop; i++) filled ||= series.filled.mean[i] > 0;
    drawn.filled.push(filled ? drawn.after[drawn.after.length - 1] : NaN);
  }
  for (const name of SIGNALS) flatten(drawn[`${name}_low`], drawn[`${name}_high`]);
  return drawn;
}

// BokehJS draws an area straight on where values are missing; of no height it is not seen.
function flatten(low, high) {
  const first = low.findIndex(known);
  let last = first < 0 ? NaN : low[first];
  for (let i = 0; i < low.length; i++) {
    if (known(low[i])) last = (low[i] + high[i]) / 2;
    else low[i] = high[i] = last;
  }
}

// Dots for rows that no line would show: few rows, or one between missing ones.
function dots(values, room) {
  const all = values.length * PIXELS_PER_DOT <= room;
  const lone = i => Number.isNaN(values[i - 1] ?? NaN) && Number.isNaN(values[i + 1] ?? NaN);
  return values.map((value, i) => (all || lone(i) ? value : NaN));
}

const count = value => value.toLocaleString("en");

function short(value) {
  if (!known(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e15)) return value.toPrecision(6);
  const digits = size < 1e5 ? { maximumSignificantDigits: 6 } : { maximumFractionDigits: 0 };
  return value.toLocaleString("en", digits);
}

const sigma = value =>
  known(value) ? `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)} σ` : "–";

function moment(x, clock) {
  if (clock === "row") return `row ${count(x)}`;
  const date = new Date(x);
  if (clock !== "time" || Number.isNaN(date.getTime())) return short(x);
  return date.toISOString().replace("T", " ").replace(/(:00)?\.000Z$|Z$/, "");
}
