// Unpacks BokehJS, builds the explorer, and builds it anew where a choice or the theme changes.

// BokehJS lies in the page compressed. The page's policy knows its digest, as it knows this
// script's: anything else would not run.
async function loadBokeh() {
  const packed = new Blob([bytes($("bokeh").textContent)]).stream();
  const text = await new Response(packed.pipeThrough(new DecompressionStream("gzip"))).text();
  const script = document.createElement("script");
  script.textContent = text;
  document.head.append(script);
}

async function start() {
  await loadBokeh();
  const data = JSON.parse($("explorer-data").textContent);
  const explorer = data.series ? seriesExplorer(data) : tableExplorer(data);
  $("static-only").hidden = true;
  $("explorer").hidden = false;
  const all = () => Promise.all([explorer.build(), diagnostics(data)]);
  for (const name of ["column", "group"]) {
    $(name)?.addEventListener("change", () => {
      explorer.choose();
      diagnostics(data);
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
  await all();
  $("explorer").dataset.ready = "yes";
}

// An old browser keeps what is read without scripts.
if ("DecompressionStream" in window) {
  start().catch(error => {
    $("explorer").hidden = true;
    $("static-only").hidden = false;
    throw error;
  });
}
