"""Metal's and OpenCL's texts as C++: checked by its front end, and run on the processor."""
