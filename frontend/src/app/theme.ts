import { createTheme, type MantineColorsTuple } from '@mantine/core';

// One accent, the blue of Okabe and Ito, which is also the product's own method.
const accent: MantineColorsTuple = [
  '#e8f3fb', '#cfe4f4', '#9fc8e8', '#6cabdc', '#4394d0', '#1f80c4', '#0072b2', '#005f96', '#004d7a', '#003b5e',
];

export const theme = createTheme({
  primaryColor: 'accent',
  primaryShade: 6, // in the dark too: white on a lighter blue is hard to read
  colors: { accent },
  fontFamily: "'Inter Variable', system-ui, sans-serif",
  fontFamilyMonospace: "'JetBrains Mono Variable', ui-monospace, monospace",
  fontSizes: { xs: '11px', sm: '13px', md: '14px', lg: '16px', xl: '20px' },
  spacing: { xs: '4px', sm: '8px', md: '12px', lg: '16px', xl: '24px' },
  radius: { xs: '2px', sm: '4px', md: '4px', lg: '6px', xl: '8px' },
  defaultRadius: 'sm',
  cursorType: 'pointer',
  components: {
    Button: { defaultProps: { size: 'compact-sm', variant: 'default' } },
    Tooltip: { defaultProps: { openDelay: 300, withArrow: false } },
    Modal: { defaultProps: { transitionProps: { duration: 0 } } },
    Menu: { defaultProps: { shadow: 'sm', position: 'bottom-end' } },
  },
});
