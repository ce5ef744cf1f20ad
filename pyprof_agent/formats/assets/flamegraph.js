
"use strict";
// Draws the profile that the page holds as JSON. Whatever comes from it goes into the page as
// text, by textContent, and never as markup.
(() => {
  const byId = (id) => document.getElementById(id);
  const profile = JSON.parse(byId("profile").textContent);
  const chartPlace = byId("chart");
  const details = byId("details");
  const search = byId("search");
  const UNITS = {
    bytes: [["PB", 2 ** 50], ["TB", 2 ** 40], ["GB", 2 ** 30], ["MB", 2 ** 20], ["kB", 1024], ["B", 1]],
    nanoseconds: [["s", 1e9], ["ms", 1e6], ["us", 1e3], ["ns", 1]],
  };
  const DRAWN_AT_ONCE = 2000; // more than that are not animated

  let part = profile.parts[profile.shown];
  let total = 0;
  let chart = null;

  const label = (value) => {
    const units = UNITS[part.unit];
    if (!units) return value.toLocaleString("en");
    const [name, factor] = units.find(([, factor]) => value >= factor) || units[units.length - 1];
    return `${parseFloat((value / factor).toFixed(2))} ${name}`;
  };
  const share = (value, of) => `${parseFloat(((100 * value) / of).toPrecision(3))} %`;

  const describe = (node) => {
    const [name, file, line] = node.data.about;
    const place = file ? `${file}:${line}` : "";
    const parent = node.parent && node.parent.data.value;
    const ofCaller = parent ? `, ${share(node.data.value, parent)} of its caller` : "";
    const value = `${label(node.data.value)}, ${share(node.data.value, total)}${ofCaller}`;
    return [name, value, place].filter(Boolean).join(" \u2014 ");
  };

  // The last parts of a name tell more than the first ones.
  const LETTER_WIDTH = 7;
  const fitting = (node) => {
    const name = node.data.name;
    const room = ((node.x1 - node.x0) * chartPlace.clientWidth) / LETTER_WIDTH;
    if (name.length <= room) return name;
    const names = name.split(".");
    while (names.length > 1 && names.join(".").length > room) names.shift();
    return names.join(".");
  };

  // Colours tell files apart.
  const hue = (text) => {
    let hash = 0;
    for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0;
    return ((hash >>> 0) * 137) % 360;
  };
  const colour = (node) => {
    if (search.value) return node.highlight ? "hsl(315 90% 72%)" : "hsl(0 0% 75%)";
    const [name, file] = node.data.about;
    return name === "all" && !node.parent ? "hsl(0 0% 80%)" : `hsl(${hue(file || name)} 55% 72%)`;
  };

  const tree = (index) => {
    const values = profile.values[index];
    const about = (i) => {
      if (!i) return ["all", "", 0];
      const [name, file, line] = profile.functions[profile.function[i]];
      return [name, profile.files[file], line];
    };
    const nodes = values.map((value, i) => {
      const facts = about(i);
      return { name: facts[0], about: facts, value, children: [] };
    });
    for (let i = 1; i < nodes.length; i++) {
      if (nodes[i].value > 0) nodes[profile.parents[i]].children.push(nodes[i]);
    }
    for (const node of nodes) node.children.sort((a, b) => b.value - a.value);
    return nodes[0];
  };

  const rest = () => {
    const all = `${part.name}: ${label(total)} in all`;
    const window = profile.seconds ? ` in ${parseFloat(profile.seconds.toFixed(2))} s` : "";
    details.textContent = `${all}${window}, ${new Date(profile.time).toISOString()}`;
  };

  const tellHidden = () => {
    const { stacks, value } = part.hidden;
    byId("hidden").textContent = stacks
      ? `${stacks.toLocaleString("en")} stacks under ${share(profile.below, 1)} each are not ` +
        `shown; together they are ${label(value)} (${share(value, total)}), which is in the ` +
        "width of what called them."
      : "";
  };

  const find = () => {
    if (!chart) return;
    if (search.value) chart.search(search.value);
    else chart.clear();
  };

  const draw = () => {
    const index = byId("part").selectedIndex;
    part = profile.parts[index];
    total = profile.values[index][0];
    chartPlace.textContent = "";
    chart = null;
    rest();
    tellHidden();
    if (!total) {
      chartPlace.textContent = `There is no ${part.name} in this profile.`;
      return;
    }
    const animated =
      profile.parents.length < DRAWN_AT_ONCE &&
      !matchMedia("(prefers-reduced-motion: reduce)").matches;
    chart = flamegraph
      .default()
      .width(chartPlace.clientWidth)
      .cellHeight(20)
      .inverted(true)
      .minFrameSize(1)
      .transitionDuration(animated ? 200 : 0)
      .getName(fitting)
      .setColorMapper(colour)
      .setLabelHandler(describe)
      .setSearchMatch((node, term) =>
        node.data.about.slice(0, 2).join(" ").toLowerCase().includes(term.toLowerCase()),
      )
      .setSearchHandler((results, sum) => {
        details.textContent = `${results.length.toLocaleString("en")} frames match, ` +
          `${label(sum)}, ${share(sum, total)}`;
      })
      .setDetailsHandler((text) => {
        if (text) details.textContent = text;
        else rest();
      })
      .onClick((node) => {
        details.textContent = describe(node);
      });
    d3.select(chartPlace).datum(tree(index)).call(chart);
    if (search.value) find();
  };

  for (const { name, unit } of profile.parts) {
    byId("part").add(new Option(`${name} (${unit})`));
  }
  byId("part").selectedIndex = profile.shown;
  byId("part").addEventListener("change", draw);
  let typing = 0;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(find, 150);
  });
  byId("reset").addEventListener("click", () => chart && chart.resetZoom());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && chart) chart.resetZoom();
  });
  let resizing = 0;
  addEventListener("resize", () => {
    clearTimeout(resizing);
    resizing = setTimeout(() => chart && chart.width(chartPlace.clientWidth).update(), 150);
  });
  for (const comment of profile.comments) {
    const item = document.createElement("li");
    item.textContent = comment;
    byId("comments").append(item);
  }
  draw();
})();
