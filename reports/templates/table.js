"use strict";

function sortable(table) {
  const headers = [...table.tHead.rows[0].cells];
  const key = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const compare = (a, b) => (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
  headers.forEach((header, column) =>
    header.addEventListener("click", () => {
      const ascending = header.getAttribute("aria-sort") !== "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows];
      // What is missing stays last in either direction.
      rows.sort((x, y) => {
        const [a, b] = [key(x, column), key(y, column)];
        return (a === "") - (b === "") || (ascending ? compare(a, b) : compare(b, a));
      });
      table.tBodies[0].append(...rows);
    }),
  );
}

document.querySelectorAll("table.sortable").forEach(sortable);
