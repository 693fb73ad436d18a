"use strict";
const entries = [...document.querySelectorAll("details.entry")];
const texts = entries.map((entry) => entry.textContent.toLowerCase());
const search = document.querySelector("#search");
const decision = document.querySelector("#decision");
const count = document.querySelector("#count");

function update() {
  const words = search.value.trim().toLowerCase();
  let matches = 0;
  entries.forEach((entry, i) => {
    const decisions = entry.dataset.decisions.split(" ");
    const shown = texts[i].includes(words) &&
      (!decision.value || decisions.includes(decision.value));
    entry.hidden = !shown;
    matches += shown;
  });
  count.textContent = `${matches} of ${entries.length} entries match`;
}

function fold(open) {
  return () => entries.forEach((entry) => { entry.open = open; });
}

search.addEventListener("input", update);
decision.addEventListener("change", update);
document.querySelector("#unfold").addEventListener("click", fold(true));
document.querySelector("#fold").addEventListener("click", fold(false));
document.querySelector("#tools").hidden = false;
update();
