// Buttons of one row are alternatives, and the rows go together: memory, and some fail.
const rows = [...document.querySelectorAll(".filters p")];
for (const button of document.querySelectorAll(".filter")) {
  button.onclick = () => {
    const was = button.classList.contains("md-button--primary");
    for (const other of button.parentElement.children) other.classList.remove("md-button--primary");
    button.classList.toggle("md-button--primary", !was);
    const chosen = rows.flatMap((row) => [...row.querySelectorAll(".md-button--primary")].map((b) => b.dataset.tag));
    for (const card of document.querySelectorAll(".card")) {
      card.hidden = !chosen.every((tag) => card.dataset.tags.split(" ").includes(tag));
    }
  };
}
