/** Bits of usages and modes, from the WebGPU specification; the types of the DOM have no names for them. */

export const BufferUsage = {
  MAP_READ: 0x1,
  COPY_SRC: 0x4,
  COPY_DST: 0x8,
  UNIFORM: 0x40,
  STORAGE: 0x80,
} as const;
export const MAP_READ = 0x1;
export const SHADER_COMPUTE = 0x4;
