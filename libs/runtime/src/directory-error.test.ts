import { AppError } from "@millrace/base";
import { describe, expect, it } from "vitest";
import { directoryError } from "./directory-error.ts";

const system = (code: string, path?: string): Error => Object.assign(new Error(code), { code, path });

describe("directoryError", () => {
  it.each([
    ["EACCES", /^data directory \/d cannot be used: user \S+ may not read and write it: change its owner/],
    ["EROFS", /read-only; otherwise choose another directory$/],
    ["EEXIST", /is no directory; otherwise choose another directory$/],
  ])("says what %s means and what to do", (code, message) => {
    const error = directoryError("/d", system(code, "/d"));
    expect(error).toBeInstanceOf(AppError);
    expect(error).toMatchObject({
      reason: "INVALID_CONFIG",
      message: expect.stringMatching(message) as string,
    });
  });

  it("names the file below it", () => {
    expect(directoryError("/d", system("EACCES", "/d/meta"))).toMatchObject({
      message: expect.stringContaining("/d (/d/meta) cannot be used") as string,
    });
  });

  it("leaves alone what says nothing about the choice", () => {
    const broken = system("EIO");
    expect(directoryError("/d", broken)).toBe(broken);
    const known = new AppError("DISK_FULL", "full");
    expect(directoryError("/d", known)).toBe(known);
  });
});
